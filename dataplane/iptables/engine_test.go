package iptables_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// kinds are Services of every kind that is rendered differently.
func kinds() map[string][]string {
	many := func(n int, more string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "many 172.30.0.50 80>8080^30050 vip=198.51.100.50 %s ->", more)
		for i := range n {
			fmt.Fprintf(&b, " 10.%d.%d.%d", 180+i/62500, i/250%250, 1+i%250)
			if i%5 == 0 {
				b.WriteString("/local")
			}
		}
		return b.String()
	}
	return map[string][]string{
		"nothing":                      nil,
		"one backend":                  {"a 172.30.0.1 80 -> 10.180.0.1"},
		"three backends":               {"a 172.30.0.1 80 -> 10.180.0.1 10.180.1.1 10.180.2.1"},
		"every protocol":               {"a 172.30.0.1 t:53 u:53/udp s:53/sctp^30001 -> 10.180.0.1 10.180.1.1", "b 172.30.0.2 s:53/sctp -> 10.180.0.2"},
		"no backend":                   {"a 172.30.0.1 80^30001 vip=198.51.100.1 xip=198.51.100.2 ->"},
		"outside":                      {"a 172.30.0.1 80^30001 vip=198.51.100.1 xip=198.51.100.2 -> 10.180.0.1 10.180.1.1"},
		"outside, one backend":         {"a 172.30.0.1 80^30001 vip=198.51.100.1 xip=198.51.100.2 -> 10.180.0.1"},
		"outside, local":               {"a 172.30.0.1 80^30001 vip=198.51.100.1 eTP=Local -> 10.180.0.1/local 10.180.1.1"},
		"outside, none local":          {"a 172.30.0.1 80^30001 vip=198.51.100.1 eTP=Local -> 10.180.1.1"},
		"inside, none local":           {"a 172.30.0.1 80 iTP=Local -> 10.180.1.1"},
		"both local":                   {"a 172.30.0.1 80^30001 vip=198.51.100.1 iTP=Local eTP=Local -> 10.180.0.1/local 10.180.0.2/local 10.180.1.1"},
		"sources":                      {"a 172.30.0.1 80^30001 vip=198.51.100.1,198.51.100.2 ranges=192.168.0.0/24,203.0.113.0/25 -> 10.180.0.1"},
		"sources and local":            {"a 172.30.0.1 80^30001 vip=198.51.100.1 eTP=Local ranges=192.168.0.0/24,203.0.113.5/32 -> 10.180.0.1/local 10.180.0.2"},
		"sources, no backend":          {"a 172.30.0.1 80 vip=198.51.100.1 ranges=203.0.113.0/25 ->"},
		"affinity":                     {"a 172.30.0.1 80^30001 affinity=10800 eTP=Local -> 10.180.0.1/local 10.180.1.1"},
		"affinity, one backend":        {"a 172.30.0.1 80 affinity=60 -> 10.180.0.1"},
		"outside the range":            {"a 192.0.2.7 80 -> 10.180.0.1", "b 192.0.2.8 80 ->", "c 192.0.2.9 80 iTP=Local -> 10.180.0.1"},
		"foreign":                      {"a 172.30.0.1 80 foreign ->", "b 192.0.2.7 80 foreign ->"},
		"17 backends":                  {many(17, "")},
		"17 backends, local":           {many(17, "eTP=Local")},
		"100 backends":                 {many(100, "")},
		"100 backends, affinity":       {many(100, "affinity=10800")},
		"1000 backends":                {many(1000, "eTP=Local")},
		"many Services and node ports": manyServices(300),
		"many ports on one address":    {manyPorts(120)},
	}
}

func manyServices(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("s%d 172.30.%d.%d 80^%d vip=198.51.%d.%d -> 10.180.%d.%d 10.180.%d.2",
			i, i/100, i%100*2, 30000+i*7, 100+i/100, i%100, i%200, 1+i/200, i%200))
	}
	return append(lines, "closed 172.30.9.9 80^32000 xip=198.51.99.1 ->")
}

func manyPorts(n int) string {
	var b strings.Builder
	b.WriteString("ports 172.30.0.9")
	for i := range n {
		fmt.Fprintf(&b, " p%d:%d/%s>%d^%d", i, 1+i*37, []string{"tcp", "udp", "sctp"}[i%3], 9000+i, 31000+i)
	}
	return b.String() + " xip=198.51.100.9 -> 10.180.0.1 10.180.0.2"
}

var _ = Describe("An engine", func() {
	onBothBackends("leaves comments out where each change copies the table, while there are many Services", func(ctx context.Context, k *kernel) {
		comments := func() int { return strings.Count(k.run("iptables-save", "-t", "nat"), "cluster IP") }
		w := newWorld(scenario.Defaults())
		const few, many, left = 600, 1_001, 499
		for _, line := range manyServices(few)[:few] {
			w.set(line)
		}
		engine := iptables.New(probe(ctx), w.settings)
		_, err := engine.Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		Expect(comments()).To(Equal(few))
		apply := func(n int, change func(line string) []forwarding.Change, lines []string) {
			GinkgoHelper()
			var changes []forwarding.Change
			for _, line := range lines {
				changes = append(changes, change(line)...)
			}
			_, err := engine.Apply(ctx, changes)
			Expect(err).NotTo(HaveOccurred())
			Expect(engine.Verify(ctx)).To(BeZero())
			Expect(comments()).To(Equal(n))
		}
		lines := manyServices(many)[:many]
		remove := func(line string) []forwarding.Change { return w.delete(strings.Fields(line)[0]) }
		with, without := func(n int) int { return n }, func(n int) int {
			if k.backend == xtables.Legacy {
				return 0
			}
			return n
		}
		apply(without(many), w.set, lines[few:])
		apply(without(few), remove, lines[few:])
		apply(with(left), remove, lines[left:few])
	})

	Describe("writes rules as the kernel prints them, so that nothing is written twice:", func() {
		for name, lines := range kinds() {
			onBothBackends(name, func(ctx context.Context, _ *kernel) {
				w := newWorld(scenario.Defaults())
				for _, line := range lines {
					w.set(line)
				}
				expectStable(ctx, w)
			})
		}
		for _, name := range []string{"one backend", "outside, local", "affinity", "affinity, one backend", "100 backends, affinity"} {
			onBothBackends(name+", on a kernel without the match bpf and without sets", func(ctx context.Context, k *kernel) {
				k.inFrontOfRestore(`script=$(cat)
					case "$script" in *"-m bpf"*|*"-m set"*) echo "no such match" >&2; exit 2;; esac
					printf '%s\n' "$script" | "$real" "$@"`)
				w := newWorld(scenario.Defaults())
				for _, line := range kinds()[name] {
					w.set(line)
				}
				expectStable(ctx, w)
				Expect(k.dump()).NotTo(Or(ContainSubstring("bpf"), ContainSubstring("match-set")))
			})
		}
		pods := func(change func(*iptables.Settings)) func(context.Context, *kernel) {
			return func(ctx context.Context, _ *kernel) {
				w := newWorld(scenario.Defaults())
				for _, name := range []string{"outside, local", "sources and local"} {
					for i, line := range kinds()[name] {
						w.set(fmt.Sprintf("s%d-%d%s", len(w.services), i, strings.TrimPrefix(line, "a")))
					}
				}
				w.set("outside-range 192.0.2.7 80 -> 10.180.0.1")
				w.set("foreign 172.30.0.7 80 foreign ->")
				change(&w.settings)
				expectStable(ctx, w)
			}
		}
		onBothBackends("masquerading everything", pods(func(s *iptables.Settings) { s.MasqueradeAll = true }))
		onBothBackends("pods unknown", pods(func(s *iptables.Settings) { s.PodCIDRs = nil }))
		onBothBackends("pods by bridge", pods(func(s *iptables.Settings) { s.PodInterface = "cni0" }))
		onBothBackends("pods by a prefix of interfaces", pods(func(s *iptables.Settings) { s.PodInterface = "veth+" }))
		onBothBackends("no range of cluster IPs", pods(func(s *iptables.Settings) { s.ServiceCIDRs = nil }))
		for _, bit := range []int{0, 3, 15, 30, 31} {
			onBothBackends(fmt.Sprintf("mark bit %d", bit), pods(func(s *iptables.Settings) { s.MarkBit = bit }))
		}
		onBothBackends("some node port addresses", pods(func(s *iptables.Settings) {
			s.NodePortAddresses = []netip.Prefix{
				netip.MustParsePrefix("192.168.0.0/24"), netip.MustParsePrefix("192.168.1.2/32"),
				netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("2001:db8::/64"),
			}
		}))
		onBothBackends("any node port address, in words", pods(func(s *iptables.Settings) {
			s.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		}))
		onBothBackends("no node port address", pods(func(s *iptables.Settings) { s.NodePortAddresses = []netip.Prefix{} }))
	})

	onBothBackends("ends with the same rules after a sequence of changes as from nothing", func(ctx context.Context, k *kernel) {
		seed := GinkgoRandomSeed()
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		w := newWorld(scenario.Defaults())
		engine := iptables.New(probe(ctx), w.settings)
		for step := range 12 {
			for range 1 + r.IntN(12) {
				_, err := engine.Apply(ctx, w.random(r))
				Expect(err).NotTo(HaveOccurred(), "seed %d", seed)
			}
			if step%3 > 0 {
				continue
			}
			after, fromNothing := k.dump(), ""
			inNamespace(k.backend, func(k *kernel) {
				_, err := iptables.New(probe(ctx), w.settings).Apply(ctx, w.all())
				Expect(err).NotTo(HaveOccurred())
				fromNothing = k.dump()
			})
			Expect(cmp.Diff(sorted(fromNothing), sorted(after))).To(BeEmpty(), "seed %d, step %d (-from nothing +after changes)", seed, step)
		}
		Expect(engine.Verify(ctx)).To(BeZero(), "seed %d", seed)
	})
})

// expectStable applies a world and expects that the kernel then holds what the engine thinks it holds, that another
// engine finds nothing to do, and that nothing is left when everything is gone.
func expectStable(ctx context.Context, w *world) {
	GinkgoHelper()
	tools := probe(ctx)
	engine := iptables.New(tools, w.settings)
	written, err := engine.Apply(ctx, w.all())
	Expect(err).NotTo(HaveOccurred())
	Expect(written.Chains).To(BeNumerically(">", 0))
	Expect(written.Jumps).To(BeNumerically(">", 0))
	Expect(engine.Verify(ctx)).To(BeZero(), "what was written is not what is read back")
	Expect(iptables.New(tools, w.settings).Apply(ctx, w.all())).To(BeZero(), "another engine does not recognise the rules")
	for _, family := range tools.Families {
		program := *family
		program.Direct = false
		Expect(ours(family.Read(ctx))).To(Equal(ours(program.Read(ctx))), "netlink does not read what iptables-save prints")
	}
}

// ours are the chains of ours among those that were read.
func ours(tables map[string]xtables.Dump, err error) map[string]xtables.Dump {
	GinkgoHelper()
	Expect(err).NotTo(HaveOccurred())
	for _, chains := range tables {
		maps.DeleteFunc(chains, func(chain string, _ []string) bool { return !strings.HasPrefix(chain, xtables.OwnPrefix) })
	}
	maps.DeleteFunc(tables, func(_ string, chains xtables.Dump) bool { return len(chains) == 0 })
	return tables
}

// sorted makes dumps comparable: the order of chains in a table says when they were made, and means nothing.
func sorted(dump string) []string {
	var lines []string
	section := ""
	for line := range strings.Lines(dump) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "ip") {
			section = line
		}
		lines = append(lines, section+" "+line)
	}
	return byChain(lines)
}

// byChain sorts lines by chain and keeps the order of rules in each.
func byChain(lines []string) []string {
	chain := func(line string) string {
		words := strings.Fields(line)
		if len(words) > 3 && words[2] == "-A" {
			return strings.Join(words[:2], " ") + " " + words[3]
		}
		return line
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(chain(a), chain(b)) })
	return lines
}
