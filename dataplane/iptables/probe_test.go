package iptables_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netns"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

var _ = Describe("What a node can do", func() {
	onBothBackends("is found out by few programs, which leave nothing behind", func(ctx context.Context, k *kernel) {
		probe(ctx) // makes the tables
		before := k.dump()
		started := filepath.Join(GinkgoT().TempDir(), "started")
		var programs []string
		for _, family := range []string{"iptables", "ip6tables"} {
			programs = append(programs, family)
			for _, backend := range []string{"-nft", "-legacy"} {
				programs = append(programs, family+backend, family+backend+"-save", family+backend+"-restore")
			}
		}
		inFrontOf(`echo "$0 $*" >> `+started+`; exec "$real" "$@"`, programs...)
		tools := probe(ctx)
		text, err := os.ReadFile(started)
		Expect(err).NotTo(HaveOccurred())
		// The version and a trial of each family; then with nft a look at what netlink wrote, and with legacy first the kubelet's hint.
		few := 5
		if k.backend == xtables.NFT {
			few = 6
		}
		Expect(strings.Split(strings.TrimSpace(string(text)), "\n")).To(HaveLen(few), string(text))
		for _, family := range tools.Families {
			Expect([]bool{family.MatchesHairpins, family.MatchesSets}).To(Equal([]bool{true, true}))
			Expect(family.Direct).To(Equal(k.backend == xtables.NFT))
		}
		Expect(k.dump()).To(Equal(before))
		Expect(ipset.Names("SPROXY")).To(BeEmpty())
	})

	onBothBackends("is found out while programs of others try the same", func(ctx context.Context, k *kernel) {
		here, err := netns.Get()
		Expect(err).NotTo(HaveOccurred())
		defer func() { Expect(here.Close()).To(Succeed()) }()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				defer GinkgoRecover()
				runtime.LockOSThread() // and the thread ends with the goroutine
				Expect(netns.Set(here)).To(Succeed())
				for range 3 {
					for _, family := range probe(ctx).Families {
						Expect([]bool{family.MatchesHairpins, family.MatchesSets, family.Direct}).To(Equal([]bool{true, true, k.backend == xtables.NFT}))
					}
				}
			})
		}
		all.Wait()
		Expect(ipset.Names("SPROXY")).To(BeEmpty())
	})

	onBothBackends("is forgotten by the next agent where one was killed while it found out", func(ctx context.Context, k *kernel) {
		w := newWorld(scenario.Defaults())
		engine := iptables.New(probe(ctx), w.settings)
		for _, clearAway := range []func() error{
			func() error { _, err := engine.Apply(ctx, w.all()); return err },
			func() error { return engine.Remove(ctx) },
		} {
			const trial = "SPROXY-4-PROBE00000001"
			Expect(ipset.Clients(trial, false, 1)).To(Succeed())
			k.run("iptables", "-t", "nat", "-N", trial)
			k.run("iptables", "-t", "nat", "-A", trial, "-m", "set", "--match-set", trial, "src")
			Expect(clearAway()).To(Succeed())
			Expect(k.dump()).NotTo(ContainSubstring("PROBE"))
			Expect(ipset.Names("SPROXY")).To(BeEmpty())
		}
	})

	DescribeTable("is found out for the backend in use", func(ctx context.Context, want xtables.Backend, commands ...string) {
		inNamespace(xtables.NFT, func(k *kernel) {
			k.run("iptables", "-t", "mangle", "-X", "KUBE-IPTABLES-HINT")
			for _, command := range commands {
				words := strings.Fields(command)
				out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
				Expect(err).NotTo(HaveOccurred(), string(out))
			}
			Expect(probe(ctx).Backend).To(Equal(want))
		})
	},
		Entry("which is that of the program where nobody uses any", usual()),
		Entry("which has rules, and the other has none", xtables.Legacy, "iptables-legacy -A INPUT -j ACCEPT"),
		Entry("which has rules, and the other has none", xtables.NFT, "ip6tables-nft -A INPUT -j ACCEPT"),
		Entry("which has more rules", xtables.Legacy, "iptables-nft -A INPUT -j ACCEPT", "ip6tables-legacy -A INPUT -j ACCEPT",
			"iptables-legacy -A INPUT -j ACCEPT"),
		Entry("which has more rules", xtables.NFT, "iptables-nft -A INPUT -j ACCEPT", "ip6tables-nft -A INPUT -j ACCEPT",
			"iptables-legacy -A INPUT -j ACCEPT"),
		Entry("which has the kubelet's hint, and fewer rules", xtables.Legacy, "ip6tables-legacy -t mangle -N KUBE-IPTABLES-HINT",
			"iptables-nft -A INPUT -j ACCEPT"),
		Entry("which has an older kubelet's hint", xtables.NFT, "iptables-nft -t mangle -N KUBE-KUBELET-CANARY",
			"iptables-legacy -A INPUT -j ACCEPT"),
	)
})

// usual is the backend of the program iptables of this machine.
func usual() xtables.Backend {
	out, _ := exec.Command("iptables", "--version").Output() // specs fail without it
	if strings.Contains(string(out), "nf_tables") {
		return xtables.NFT
	}
	return xtables.Legacy
}
