package iptables_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// everything is a world with Services of many kinds.
func everything() *world {
	GinkgoHelper()
	w := newWorld(scenario.Defaults())
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 60 {
		w.set(scenario.RandomService(r, i))
	}
	w.set("local 172.30.0.200 80^31000 vip=203.0.113.200 eTP=Local ranges=203.0.113.0/25 -> 10.180.0.1/local 10.180.1.1")
	w.set("remembers 172.30.0.201 80^31001 affinity=60 -> 10.180.0.1 10.180.0.2")
	w.set("nobody 172.30.0.202 80^31002 xip=203.0.113.202 ->")
	return w
}

// foreignRules are rules that belong to somebody else, before and behind ours and with names much like ours.
func foreignRules(k *kernel) {
	GinkgoHelper()
	for _, program := range []string{"iptables", "ip6tables"} {
		k.run(program, "-t", "nat", "-N", "KUBE-SERVICES")
		k.run(program, "-t", "nat", "-A", "KUBE-SERVICES", "-p", "tcp", "--dport", "1", "-j", "RETURN")
		k.run(program, "-t", "nat", "-A", "PREROUTING", "-j", "KUBE-SERVICES")
		k.run(program, "-t", "nat", "-I", "POSTROUTING", "-o", "docker0", "-j", "MASQUERADE")
		k.run(program, "-t", "filter", "-N", "MY-SPROXY-CHAIN")
		k.run(program, "-t", "filter", "-A", "FORWARD", "-p", "udp", "-j", "MY-SPROXY-CHAIN")
		k.run(program, "-t", "filter", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-m", "comment", "--comment", "jumps to -j SPROXY-FILTER", "-j", "ACCEPT")
		k.run(program, "-t", "filter", "-P", "FORWARD", "DROP")
	}
}

var _ = Describe("An engine", func() {
	// Each kind of damage is done to one family after the other.
	damage := map[string]func(k *kernel, program string){
		"a chain flushed":       func(k *kernel, program string) { k.run(program, "-t", "nat", "-F", "SPROXY-ADDRESSES") },
		"all rules flushed":     func(k *kernel, program string) { k.run(program, "-t", "nat", "-F") },
		"table filter flushed":  func(k *kernel, program string) { k.run(program, "-t", "filter", "-F") },
		"a rule deleted":        func(k *kernel, program string) { k.run(program, "-t", "nat", "-D", "SPROXY-POSTROUTING", "1") },
		"a rule added":          func(k *kernel, program string) { k.run(program, "-t", "nat", "-A", "SPROXY-SERVICES", "-j", "RETURN") },
		"a rule put first":      func(k *kernel, program string) { k.run(program, "-t", "filter", "-I", "SPROXY-RANGE", "-j", "DROP") },
		"a jump removed":        func(k *kernel, program string) { k.run(program, "-t", "nat", "-D", "PREROUTING", "1") },
		"every jump removed":    func(k *kernel, program string) { k.run(program, "-t", "filter", "-F", "INPUT") },
		"a chain of ours added": func(k *kernel, program string) { k.run(program, "-t", "nat", "-N", "SPROXY-C-GONE") },
		"chains and rules deleted": func(k *kernel, program string) {
			k.run(program, "-t", "nat", "-F")
			k.run(program, "-t", "nat", "-X")
			k.run(program, "-t", "filter", "-F")
			k.run(program, "-t", "filter", "-X")
		},
		"a stale chain that is jumped to": func(k *kernel, program string) {
			k.run(program, "-t", "nat", "-N", "SPROXY-C-OLD")
			k.run(program, "-t", "nat", "-A", "SPROXY-C-OLD", "-j", "SPROXY-OFFCLUSTER")
			k.run(program, "-t", "nat", "-A", "SPROXY-ADDRESSES", "-j", "SPROXY-C-OLD")
		},
	}
	for name, do := range damage {
		onBothBackends("repairs drift: "+name, func(ctx context.Context, k *kernel) {
			w := everything()
			engine := iptables.New(probe(ctx), w.settings)
			_, err := engine.Apply(ctx, w.all())
			Expect(err).NotTo(HaveOccurred())
			want := k.dump()
			Expect(engine.Compare(ctx)).To(BeEmpty())
			for _, program := range []string{"iptables", "ip6tables"} {
				Expect(engine.Changed(ctx)).To(BeFalse())
				do(k, program)
				Expect(engine.Changed(ctx)).To(Equal(k.backend == xtables.Legacy), "nf_tables gives notice")
				protocol := map[string]string{"iptables": "IPv4", "ip6tables": "IPv6"}[program]
				different, err := engine.Compare(ctx)
				Expect(err).NotTo(HaveOccurred())
				Expect(different).To(And(Not(BeEmpty()), HaveEach(HaveSuffix(protocol))))
				repaired, err := engine.Verify(ctx)
				Expect(err).NotTo(HaveOccurred())
				Expect(repaired).NotTo(BeZero())
				Expect(counted(k.dump())).To(Equal(counted(want)), program)
				Expect(engine.Verify(ctx)).To(BeZero())
				Expect(engine.Compare(ctx)).To(BeEmpty())
			}
		})
	}

	onBothBackends("puts a jump first again that was moved behind rules of others, and leaves rules that were put before it", func(ctx context.Context, k *kernel) {
		foreignRules(k)
		w := everything()
		engine := iptables.New(probe(ctx), w.settings)
		_, err := engine.Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		Expect(engine.Compare(ctx)).To(BeEmpty())
		k.run("iptables", "-t", "nat", "-I", "PREROUTING", "-s", "192.0.2.1", "-j", "ACCEPT")
		Expect(engine.Compare(ctx)).To(BeEmpty())
		const jump = "service proxy: Services"
		want := k.dump()
		for range 3 {
			k.run("iptables", "-t", "nat", "-D", "PREROUTING", "-m", "comment", "--comment", jump, "-j", "SPROXY-SERVICES")
			k.run("iptables", "-t", "nat", "-A", "PREROUTING", "-m", "comment", "--comment", jump, "-j", "SPROXY-SERVICES")
			Expect(engine.Compare(ctx)).To(ConsistOf(HavePrefix("jump to SPROXY-SERVICES in chain PREROUTING of table nat")))
			repaired, err := engine.Verify(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(repaired.Jumps).To(Equal(1))
			Expect(engine.Compare(ctx)).To(BeEmpty())
		}
		Expect(strings.Count(k.dump(), jump)).To(Equal(strings.Count(want, jump)))
		By("not quarrelling for ever with one who wants it so")
		k.run("iptables", "-t", "nat", "-D", "PREROUTING", "-j", "KUBE-SERVICES")
		k.run("iptables", "-t", "nat", "-I", "PREROUTING", "-j", "KUBE-SERVICES")
		Expect(engine.Compare(ctx)).To(BeEmpty())
	})

	onBothBackends("leaves the rules of others alone, and removes all of its own in the end", func(ctx context.Context, k *kernel) {
		foreignRules(k)
		before := k.dump()
		w := everything()
		engine := iptables.New(probe(ctx), w.settings)
		_, err := engine.Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		Expect(engine.Verify(ctx)).To(BeZero())
		Expect(ipset.Names("SPROXY-")).NotTo(BeEmpty())
		Expect(iptables.Cleanup(ctx)).To(Succeed())
		Expect(k.dump()).To(Equal(before))
		Expect(ipset.Names("SPROXY-")).To(BeEmpty())
		Expect(iptables.Cleanup(ctx)).To(Succeed(), "where nothing is left to do")

		_, err = engine.Verify(ctx)
		Expect(err).NotTo(HaveOccurred(), "it can begin again")
		Expect(engine.Verify(ctx)).To(BeZero())
		Expect(engine.Remove(ctx)).To(Succeed())
		Expect(k.dump()).To(Equal(before))
		Expect(ipset.Names("SPROXY-")).To(BeEmpty())
	})

	onBothBackends("takes over from another layout of rules", func(ctx context.Context, k *kernel) {
		w := everything()
		tools := probe(ctx)
		_, err := iptables.New(tools, w.settings).Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		want := k.dump()
		for _, family := range []string{"iptables", "ip6tables"} {
			for _, table := range []string{"nat", "filter"} {
				older := strings.ReplaceAll(k.run(family+"-save", "-t", table), "SPROXY-", "SPROXY-0")
				older = strings.ReplaceAll(strings.ReplaceAll(older, "SPROXY-04-", "SPROXY-4-"), "SPROXY-06-", "SPROXY-6-") // sets stay
				k.restore(family, older)
			}
		}
		_, err = iptables.New(tools, w.settings).Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		Expect(slices.Sorted(strings.Lines(k.dump()))).To(Equal(slices.Sorted(strings.Lines(want))), "but for the order of chains")
	})

	onBothBackends("removes what an engine before it left behind", func(ctx context.Context, k *kernel) {
		w := everything()
		tools := probe(ctx)
		_, err := iptables.New(tools, w.settings).Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		small := newWorld(scenario.Defaults())
		small.set("one 172.30.0.1 80 -> 10.180.0.1 10.180.0.2")
		_, err = iptables.New(tools, small.settings).Apply(ctx, small.all())
		Expect(err).NotTo(HaveOccurred())
		after, fresh := k.dump(), ""
		inNamespace(k.backend, func(k *kernel) {
			_, err := iptables.New(probe(ctx), small.settings).Apply(ctx, small.all())
			Expect(err).NotTo(HaveOccurred())
			fresh = k.dump()
		})
		Expect(sorted(after)).To(Equal(sorted(fresh)))
	})

	onBothBackends("writes little when little changes", func(ctx context.Context, _ *kernel) {
		w := newWorld(scenario.Defaults())
		for _, line := range manyServices(300) {
			w.set(line)
		}
		engine := iptables.New(probe(ctx), w.settings)
		_, err := engine.Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		written, err := engine.Apply(ctx, w.set("s7 172.30.0.14 80^30049 vip=198.51.100.7 -> 10.180.7.1 10.180.7.2 10.180.7.3"))
		Expect(err).NotTo(HaveOccurred())
		Expect(written.Chains).To(Equal(2), "the chain of its backends, in each family")
		Expect(engine.Apply(ctx, w.set("s7 172.30.0.14 80^30049 vip=198.51.100.7 -> 10.180.7.1 10.180.7.2 10.180.7.3"))).To(BeZero())
	})

	onBothBackends("follows a change of settings", func(ctx context.Context, k *kernel) {
		w := everything()
		engine := iptables.New(probe(ctx), w.settings)
		_, err := engine.Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		settings := w.settings
		settings.MarkBit, settings.MasqueradeAll, settings.ServiceCIDRs, settings.ForeignMarks = 3, true, nil, 0x7fff
		engine.Configure(settings)
		_, err = engine.Apply(ctx, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(engine.Verify(ctx)).To(BeZero())
		after, fresh := k.dump(), ""
		inNamespace(k.backend, func(k *kernel) {
			_, err := iptables.New(probe(ctx), settings).Apply(ctx, w.all())
			Expect(err).NotTo(HaveOccurred())
			fresh = k.dump()
		})
		Expect(sorted(after)).To(Equal(sorted(fresh)))
	})

	onBothBackends("starts no program to write to nf_tables, and one for each family to write to legacy tables", func(ctx context.Context, k *kernel) {
		started := filepath.Join(GinkgoT().TempDir(), "started")
		k.inFrontOfRestore(`echo >> ` + started + `; exec "$real" "$@"`)
		w := everything()
		tools := probe(ctx)
		engine := iptables.New(tools, w.settings)
		count := func() int {
			text, err := os.ReadFile(started)
			if !errors.Is(err, fs.ErrNotExist) {
				Expect(err).NotTo(HaveOccurred())
			}
			return len(text)
		}
		probing := count()
		first, err := engine.Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		Expect(engine.Verify(ctx)).To(BeZero(), "the programs read what was written as it was meant")
		loaded := count()
		change, err := engine.Apply(ctx, w.set("new 172.30.0.210 80 -> 10.180.0.1 10.180.0.2"))
		Expect(err).NotTo(HaveOccurred())
		changed := count()
		Expect(engine.Verify(ctx)).To(BeZero())
		Expect([]int{first.Programs, change.Programs}).To(Equal([]int{loaded - probing, changed - loaded}))
		if k.backend == xtables.NFT {
			Expect([]int{loaded - probing, changed - loaded}).To(Equal([]int{0, 0}))
		} else {
			Expect(loaded-probing).To(Equal(2), "one for each family")
			Expect(changed - loaded).To(BeElementOf(1, 2))
		}
	})

	onBothBackends("recovers from an iptables-restore that fails", func(ctx context.Context, k *kernel) {
		refuse := filepath.Join(GinkgoT().TempDir(), "refuse")
		k.inFrontOfRestore(`if [ -e ` + refuse + ` ]; then echo "$0: the lock is held" >&2; exit 4; fi; exec "$real" "$@"`)
		w := everything()
		tools := probe(ctx)
		for _, programs := range tools.Families {
			programs.Direct = false
		}
		engine := iptables.New(tools, w.settings)
		_, err := engine.Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		before := k.dump()

		Expect(os.WriteFile(refuse, nil, 0o600)).To(Succeed())
		var changes [][]forwarding.Change
		changes = append(changes, w.delete("local"), w.set("new 172.30.0.210 80 -> 10.180.0.1 10.180.0.2"))
		_, err = engine.Apply(ctx, changes[0])
		Expect(err).To(MatchError(ContainSubstring("the lock is held")))
		_, err = engine.Apply(ctx, changes[1])
		Expect(err).To(HaveOccurred())
		Expect(cmp.Diff(before, k.dump())).To(BeEmpty(), "a failed write must not change anything")

		Expect(os.Remove(refuse)).To(Succeed())
		_, err = engine.Apply(ctx, nil)
		Expect(err).NotTo(HaveOccurred(), "what failed is written with the next call")
		Expect(engine.Verify(ctx)).To(BeZero())
		after, fresh := k.dump(), ""
		inNamespace(k.backend, func(k *kernel) {
			_, err := iptables.New(probe(ctx), w.settings).Apply(ctx, w.all())
			Expect(err).NotTo(HaveOccurred())
			fresh = k.dump()
		})
		Expect(sorted(after)).To(Equal(sorted(fresh)))
	})
})

// inFrontOfRestore puts a shell script in front of iptables-restore and ip6tables-restore, which it finds in $real.
func (k *kernel) inFrontOfRestore(script string) {
	GinkgoHelper()
	inFrontOf(script, fmt.Sprintf("iptables-%s-restore", k.backend), fmt.Sprintf("ip6tables-%s-restore", k.backend))
}

func inFrontOf(script string, programs ...string) {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	for _, name := range programs {
		program, err := exec.LookPath(name)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nreal="+program+"\n"+script+"\n"), 0o700)).To(Succeed())
	}
	GinkgoT().Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// counted is a dump in which the order of rules does not matter: a jump that was missing is put first.
func counted(dump string) map[string]int {
	lines := map[string]int{}
	for _, line := range sorted(dump) {
		lines[line]++
	}
	return lines
}
