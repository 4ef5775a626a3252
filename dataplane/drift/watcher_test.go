package drift_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/drift"
)

// rules are chains of ours, and jumps to them.
const rules = `iptables-nft-restore --noflush <<-.
	*nat
	:SPROXY-SERVICES - [0:0]
	:SPROXY-WEB - [0:0]
	-A SPROXY-SERVICES -d 10.96.0.1 -j SPROXY-WEB
	-I PREROUTING 1 -j SPROXY-SERVICES
	COMMIT
	.
	iptables-nft -t nat -N CNI; iptables-nft -t nat -A POSTROUTING -j CNI
	iptables-nft -t nat -A PREROUTING -j ACCEPT`

var _ = Describe("Watcher", func() {
	DescribeTable("hears of what somebody else does to what is ours", func(ctx context.Context, command, reason string) {
		w := watch(ctx, rules, "ip link set lo up; ip route add local 10.96.0.0/16 dev lo proto 211")
		run(command)
		Eventually(w.Changed()).WithTimeout(time.Minute).Should(Receive())
		Expect(texts(w.Take())).To(ContainElement(HavePrefix(reason)))
		Expect(w.Take()).To(BeEmpty())
	},
		Entry("a chain emptied", "iptables-nft -t nat -F SPROXY-SERVICES", "chain SPROXY-SERVICES in table nat of IPv4 by iptables"),
		Entry("a rule deleted", "iptables-nft -t nat -D SPROXY-SERVICES 1", "chain SPROXY-SERVICES in table nat of IPv4"),
		Entry("a rule inserted", "iptables-nft -t nat -I SPROXY-WEB -j RETURN", "chain SPROXY-WEB in table nat of IPv4"),
		Entry("a jump deleted", "iptables-nft -t nat -D PREROUTING -j SPROXY-SERVICES", "chain PREROUTING in table nat of IPv4"),
		Entry("a jump moved", "iptables-nft -t nat -D PREROUTING 1; iptables-nft -t nat -A PREROUTING -j SPROXY-SERVICES", "chain PREROUTING in table nat of IPv4"),
		Entry("a built-in chain emptied", "iptables-nft -t nat -F PREROUTING", "chain PREROUTING in table nat of IPv4"),
		Entry("a table emptied", "iptables-nft -t nat -F", "chain SPROXY-SERVICES in table nat of IPv4"),
		Entry("everything gone", "nft flush ruleset", "table nat of IPv4"),
		Entry("a route gone", "ip route del local 10.96.0.0/16 dev lo", "route 10.96.0.0/16"),
	)

	DescribeTable("does not hear of what is of others", func(ctx context.Context, command string) {
		w := watch(ctx, rules, "ip link set lo up")
		run(command)
		Expect(w.Take()).To(BeEmpty())
		Expect(w.Changed()).NotTo(Receive())
	},
		Entry("a rule in a chain of others", "iptables-nft -t nat -A CNI -s 10.0.0.1 -j MASQUERADE; iptables-nft -t nat -D CNI 1"),
		Entry("a rule before ours", "iptables-nft -t nat -I PREROUTING -s 10.0.0.1 -j ACCEPT"),
		Entry("a rule behind ours", "iptables-nft -t nat -A PREROUTING -s 10.0.0.1 -j ACCEPT"),
		Entry("a table of others", "nft add table inet firewall; nft add chain inet firewall SPROXY-LIKE; nft delete table inet firewall"),
		Entry("a chain that is tried", "iptables-nft -t nat -N SPROXY-4-PROBE00000001; iptables-nft -t nat -X SPROXY-4-PROBE00000001"),
		Entry("a route of others", "ip route add local 10.97.0.0/16 dev lo; ip route del local 10.97.0.0/16 dev lo"),
	)

	It("does not hear of what we write, and of what somebody else writes meanwhile", func(ctx context.Context) {
		w := watch(ctx, rules)
		w.Own(func() { run("iptables-nft -t nat -A SPROXY-WEB -j RETURN") })
		Expect(w.Take()).To(BeEmpty())
		w.Own(func() {
			run("iptables-nft -t nat -A SPROXY-WEB -j RETURN")
			run("iptables-nft -t nat -F SPROXY-SERVICES")
		})
		Expect(texts(w.Take())).To(ContainElement(HavePrefix("chain SPROXY-SERVICES in table nat of IPv4")))
		run("iptables-nft -t nat -F SPROXY-SERVICES; iptables-nft -t nat -A SPROXY-SERVICES -j SPROXY-WEB")
		Expect(w.Take()).NotTo(BeEmpty())
	})

	It("hears of something when there was more than the kernel could tell, unless we wrote it", func(ctx context.Context) {
		w := watch(ctx, rules)
		script := func(chain string) string {
			var b strings.Builder
			fmt.Fprintf(&b, "iptables-nft-restore --noflush <<-.\n*nat\n:%s - [0:0]\n", chain)
			for i := range 30_000 {
				fmt.Fprintf(&b, "-A %s -s 10.%d.%d.%d -j ACCEPT\n", chain, i>>16, i>>8&0xff, i&0xff)
			}
			return b.String() + "COMMIT\n.\n"
		}
		w.Own(func() { runInput(script("SPROXY-BIG")) })
		Expect(w.Take()).To(BeEmpty())
		runInput(script("SPROXY-FOREIGN"))
		Expect(w.Take()).NotTo(BeEmpty())
	})
})

func texts(suspects []drift.Suspect) []string {
	var all []string
	for _, s := range suspects {
		all = append(all, s.String())
	}
	return all
}
