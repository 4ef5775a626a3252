// Package virtualserver reads and writes the virtual servers of IPVS, the load balancer in the kernel (ipvsadm(8)), by
// generic netlink: no program is started, and hundreds of changes go into one system call.
//
// A virtual server of ours carries a flag that no scheduler looks at (FlagOurs), so that ours are told from those of
// others also after a restart, without any record. What others made is listed, and changed by nobody but who asks for it
// by its key.
//
// Everything is about the network namespace of the thread that called Open.
package virtualserver
