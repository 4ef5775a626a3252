package foreignproxy_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netns"

	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestForeignProxy(t *testing.T) {
	specs.Run(t, "dataplane/foreignproxy")
}

// enterNamespace puts the rest of a spec into a network namespace of its own. The thread stays locked, so that it ends
// with the spec's goroutine, and the namespace with it.
func enterNamespace() {
	GinkgoHelper()
	runtime.LockOSThread()
	there, err := netns.New()
	Expect(err).NotTo(HaveOccurred(), "making a network namespace needs root")
	Expect(there.Close()).To(Succeed()) // the thread holds it
}

// run runs a program in the namespace of the spec.
func run(command ...string) string {
	GinkgoHelper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%v: %s", command, out)
	return string(out)
}

// restore gives iptables-restore of a backend, in both families, what is to be there.
func restore(backend, script string) {
	GinkgoHelper()
	for _, program := range []string{"iptables", "ip6tables"} {
		cmd := exec.Command(program+"-"+backend+"-restore", "--noflush")
		cmd.Stdin = strings.NewReader(script)
		out, err := cmd.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
	}
}

// saved is what iptables-save of a backend prints of both families, without comments, counters and the order of tables.
func saved(backend string) map[string]string {
	GinkgoHelper()
	all := map[string]string{}
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"mangle", "nat", "filter"} {
			var kept strings.Builder
			for line := range strings.Lines(run(program+"-"+backend+"-save", "-t", table)) {
				if line, _, _ := strings.Cut(line, " ["); !strings.HasPrefix(line, "#") {
					kept.WriteString(strings.TrimSpace(line) + "\n")
				}
			}
			all[program+" "+table] = kept.String()
		}
	}
	return all
}
