package nft_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netns"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestNFT(t *testing.T) {
	specs.Run(t, "nft")
}

// inNamespace makes a spec that runs in a network namespace of its own, on a thread that stays in it, so that every program
// that it starts is in it too.
func inNamespace(body func(ctx SpecContext)) func(ctx SpecContext) {
	return func(ctx SpecContext) {
		runtime.LockOSThread()
		home, err := netns.Get()
		Expect(err).NotTo(HaveOccurred())
		defer func() {
			Expect(netns.Set(home)).To(Succeed())
			Expect(home.Close()).To(Succeed())
			runtime.UnlockOSThread()
		}()
		there, err := netns.New()
		Expect(err).NotTo(HaveOccurred(), "making a network namespace needs root")
		Expect(there.Close()).To(Succeed()) // the thread holds it
		body(ctx)
	}
}

// family is one of the two, and what iptables calls it.
type family struct {
	program string
	ipv6    bool
}

func families() []family { return []family{{"iptables", false}, {"ip6tables", true}} }

// nftFamily is what nft calls it.
func (f family) nftFamily() string {
	if f.ipv6 {
		return "ip6"
	}
	return "ip"
}

// restore has iptables-nft-restore write a script.
func (f family) restore(script string) {
	GinkgoHelper()
	cmd := exec.Command(f.program+"-nft-restore", "--noflush")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s\n%s", out, script)
}

// reader reads by netlink until the spec ends, and has to understand every rule.
func (f family) reader() *nft.Reader {
	r := &nft.Reader{IPv6: f.ipv6}
	DeferCleanup(r.Close)
	return r
}

// rules are the rules of a chain, each as iptables-nft-save prints it after "-A CHAIN".
func (f family) rules(table, chain string) []string {
	GinkgoHelper()
	var rules []string
	for line := range strings.Lines(run(f.program+"-nft-save", "-t", table)) {
		if rule, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			rules = append(rules, " "+strings.TrimRight(rule, "\n"))
		}
	}
	return rules
}

func run(program string, args ...string) string {
	GinkgoHelper()
	out, err := exec.Command(program, args...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s %v: %s", program, args, out)
	return string(out)
}
