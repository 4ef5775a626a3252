// Package kernel runs programs on a kernel that has IPVS, whatever the kernel of the machine.
//
// Where the running kernel has ip_vs (HasIPVS), a program runs as any other. Elsewhere it runs in a virtual machine of
// user-mode Linux (linux.uml, of Debian's package user-mode-linux): a Linux kernel that is an ordinary program, needs no
// hardware support, is there in two seconds, and sees the files of this machine as its own. A package of tests that needs
// IPVS says so in one line, and nobody who runs them has to know:
//
//	func TestMain(m *testing.M) { os.Exit(kernel.Main(m)) }
//
// Other programs are run with Run. What is different inside:
//
//   - There is one CPU. Computing is as fast as outside; starting processes and touching new memory is several times
//     slower.
//   - The files are those of the machine, and what is written stays. Only /dev/shm and /run are the virtual machine's own,
//     in memory, and TMPDIR is there, so that temporary files vanish with it.
//   - Modules are loaded on demand, as on any machine.
//   - iptables are the legacy ones: this kernel has no nf_tables for IPv4. iptables-nft is there, and fails.
//   - The network has nothing but the loopback interface, and what Program.Reach names.
//   - The race detector cannot work, because an address space has 512 GB only. A test binary that was built with -race is
//     built once more without.
//
// What needs a cluster as well leaves its control plane outside: see Main and Join of test/cluster.
//
// Nothing is left behind: the virtual machine is one process to those outside, and ends with the process that started it.
package kernel
