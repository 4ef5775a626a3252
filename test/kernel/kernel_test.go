package kernel_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gleak"

	"github.com/serviceproxy/service-proxy-operator/test/kernel"
)

// run runs a script of the shell and returns its status and what it wrote.
func run(ctx context.Context, script string, args ...string) (status int, stdout, stderr string) {
	GinkgoHelper()
	var out, complaints strings.Builder
	status, err := kernel.Run(ctx, kernel.Program{
		Args: append([]string{"sh", "-c", script, "sh"}, args...), Stdout: &out, Stderr: &complaints,
	})
	Expect(err).NotTo(HaveOccurred())
	return status, out.String(), complaints.String()
}

// processes are those whose command line names a folder.
func processes(folder string) []string {
	GinkgoHelper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Expect(err).NotTo(HaveOccurred())
	var found []string
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), folder) {
			found = append(found, file)
		}
	}
	return found
}

var _ = Describe("A program", func() {
	It("has IPVS, the schedulers of it, and what iptables need", func(ctx SpecContext) {
		_, out, complaints := run(ctx, `unshare --net sh -e -c '
			cat /proc/net/ip_vs
			for scheduler in rr wrr lc wlc sh dh sed nq mh; do modprobe ip_vs_$scheduler; done
			ipset create clients hash:ip timeout 60
			for command in iptables-legacy ip6tables-legacy; do
				$command -t nat -A PREROUTING -m conntrack --ctstate NEW -m comment --comment c -j MARK --set-xmark 0x1/0x1
				$command -t nat -A PREROUTING -p tcp -m statistic --mode random --probability 0.5 -j RETURN
				$command -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p udp -m multiport --dports 1,2 -j RETURN
				$command -t nat -A POSTROUTING -m mark --mark 0x1 -m bpf --bytecode "1,6 0 0 65535" -j MASQUERADE
				$command -A INPUT -p tcp -j REJECT
			done
			iptables-legacy -t nat -A PREROUTING -m set --match-set clients src -j SET --add-set clients src
			ip link add name veth-a type veth peer name veth-b
			ip link add name bridge0 type bridge
			conntrack -L
			echo complete'`)
		Expect(out).To(ContainSubstring("IP Virtual Server"))
		Expect(out).To(HaveSuffix("complete\n"), complaints)
	}, SpecTimeout(runTimeout))

	It("gets its arguments, environment and folder, and gives back its output and status", func(ctx SpecContext) {
		odd := "a 'quoted'\n$(word) \\ \"*\""
		var out, complaints strings.Builder
		status, err := kernel.Run(ctx, kernel.Program{
			Args:   []string{"sh", "-c", `printf '%s|' "$@" "$ODD" "$HOME" "$(pwd)"; echo failure >&2; exit 7`, "sh", odd, ""},
			Env:    []string{"PATH=" + os.Getenv("PATH"), "ODD=" + odd},
			Dir:    "/etc",
			Stdout: &out, Stderr: &complaints,
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(status).To(Equal(7))
		Expect(out.String()).To(Equal(odd + "||" + odd + "||/etc|"))
		Expect(complaints.String()).To(Equal("failure\n"))
	}, SpecTimeout(runTimeout))

	It("may write much, write files, and be ended by a signal", func(ctx SpecContext) {
		file := filepath.Join(GinkgoT().TempDir(), "file")
		status, out, _ := run(ctx, `echo here >$1; seq 1 100000; kill -KILL $$`, file)
		Expect(status).To(Equal(128 + 9))
		Expect(out).To(HaveSuffix("\n99999\n100000\n"))
		Expect(os.ReadFile(file)).To(Equal([]byte("here\n")))
	}, SpecTimeout(runTimeout))

	It("that is not there is an error, or has the status that a shell gives it", func(ctx SpecContext) {
		status, err := kernel.Run(ctx, kernel.Program{Args: []string{"/no/such/program"}})
		if err == nil {
			Expect(status).To(Equal(127))
		}
	}, SpecTimeout(runTimeout))

	It("ends with its context, and leaves nothing", func(ctx SpecContext) {
		goroutines := gleak.Goroutines()
		folder := GinkgoT().TempDir()
		GinkgoT().Setenv("TMPDIR", folder)
		ctx2, cancel := context.WithCancel(ctx)
		defer cancel()
		out := gbytes.NewBuffer()
		ended := make(chan error)
		go func() {
			_, err := kernel.Run(ctx2, kernel.Program{
				Args: []string{"sh", "-c", forever}, Stdout: out, Reach: []string{"127.0.0.1:9"},
			})
			ended <- err
		}()
		Eventually(out).Should(gbytes.Say("running"))
		cancel()
		Eventually(ended).Should(Receive(MatchError(context.Canceled)))
		Expect(os.ReadDir(folder)).To(BeEmpty())
		Expect(processes(folder)).To(BeEmpty())
		Eventually(gleak.Goroutines).ShouldNot(gleak.HaveLeaked(goroutines))
	}, SpecTimeout(runTimeout))

	It("ends with the process that runs it, however that ends, and leaves nothing", func(ctx SpecContext) {
		folder := GinkgoT().TempDir()
		holder := exec.CommandContext(ctx, os.Args[0])
		holder.Env = append(os.Environ(), roleVariable+"="+holderRole, "TMPDIR="+folder)
		out, err := holder.StdoutPipe()
		Expect(err).NotTo(HaveOccurred())
		Expect(holder.Start()).To(Succeed())
		Expect(bufio.NewReader(out).ReadString('\n')).To(Equal("running\n"))

		Expect(holder.Process.Kill()).To(Succeed())
		Expect(holder.Wait()).NotTo(Succeed())
		Eventually(processes).WithArguments(folder).Should(BeEmpty())
		Expect(os.ReadDir(folder)).To(BeEmpty())
	}, SpecTimeout(runTimeout))
})
