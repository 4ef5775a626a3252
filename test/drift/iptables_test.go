package drift

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// jump is the jump that packets from pods take.
const jump = "PREROUTING -m comment --comment 'service proxy: Services' -j SPROXY-SERVICES"

// damage is something that somebody does to a node, in words of iptables of the node's backend.
type damage struct {
	name, script string
	// silent says that the kernel gives no notice and nothing tells it from what was there, but with nf_tables.
	silent bool
	// foreign says that rules of others are gone too.
	foreign bool
}

var damages = []damage{
	{name: "a chain emptied", script: "IPT -t nat -F SPROXY-SERVICES"},
	{name: "a rule deleted", script: "IPT -t nat -D SPROXY-SERVICES 2"},
	{name: "a rule inserted into a chain of ours", script: "IPT -t nat -I SPROXY-SERVICES -j RETURN"},
	{name: "a rule replaced", script: "IPT -t nat -R SPROXY-SERVICES 2 -j RETURN"},
	{name: "the jump deleted", script: "IPT -t nat -D " + jump},
	{name: "the jump moved behind another", script: "IPT -t nat -D " + jump + "; IPT -t nat -A " + jump, silent: true},
	{name: "the built-in chains emptied", script: "IPT -t nat -F PREROUTING; IPT -t nat -F OUTPUT; IPT -t nat -F POSTROUTING", foreign: true},
	{name: "a firewall's reload", script: "for t in nat filter; do IPT -t $t -F; IPT -t $t -X; done", foreign: true},
}

var _ = Describe("A node in mode iptables", func() {
	for _, backend := range backends {
		for _, d := range damages {
			if d.silent && backend == "legacy" {
				continue // found when everything is compared
			}
			It(fmt.Sprintf("[%s] recovers from %s", backend, d.name), func(ctx SpecContext) {
				before, counted := rules(ctx, backend), repairs(ctx, backend)
				if d.silent {
					// It is known from the last comparison before which rules the jump stands.
					run(ctx, backend, iptables(backend, "IPT -t nat -D "+jump))
					Eventually(func() string { return rules(ctx, backend) }).Should(Equal(before))
					Eventually(func() int { return repairs(ctx, backend) }).Should(BeNumerically(">", counted))
					counted = repairs(ctx, backend)
				}
				Eventually(func() error { return asks(ctx, backend) }).Should(Succeed())
				run(ctx, backend, iptables(backend, d.script))
				start := time.Now()
				if d.foreign {
					run(ctx, backend, iptables(backend, foreign)) // whoever they belong to makes them again
				}
				Eventually(func() string { return rules(ctx, backend) }).Should(Equal(before))
				AddReportEntry(fmt.Sprintf("%s: %s", backend, d.name), fmt.Sprintf("recovered in %.2f s", time.Since(start).Seconds()))
				Expect(asks(ctx, backend)).To(Succeed())
				Expect(run(ctx, backend, iptables(backend, "IPT-save"))).To(ContainSubstring("FOREIGN"))
				Eventually(func() int { return repairs(ctx, backend) }).Should(BeNumerically(">", counted))
			}, SpecTimeout(5*time.Minute))
		}

		It(fmt.Sprintf("[%s] carries out an ordinary change after a firewall's reload", backend), func(ctx SpecContext) {
			before := rules(ctx, backend)
			run(ctx, backend, iptables(backend, "for t in nat filter; do IPT -t $t -F; IPT -t $t -X; done; "+foreign))
			kubectl(ctx, "patch", "service", "nobody", "--type=merge", `--patch={"spec":{"selector":{"app":"web"}}}`)
			DeferCleanup(func(ctx SpecContext) {
				kubectl(ctx, "patch", "service", "nobody", "--type=merge", `--patch={"spec":{"selector":{"app":"nobody"}}}`)
				Eventually(func() string { return rules(ctx, backend) }).Should(Equal(before))
			}, NodeTimeout(5*time.Minute))
			Eventually(func() error {
				_, err := pods["client-"+backend].Ask(ctx, "tcp", "10.96.0.82:80")
				return err
			}).Should(Succeed())
			Eventually(func() error { return asks(ctx, backend) }).Should(Succeed())
		}, SpecTimeout(5*time.Minute))

		It(fmt.Sprintf("[%s] sets a parameter of the kernel again", backend), func(ctx SpecContext) {
			const parameter = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"
			Expect(run(ctx, backend, "cat "+parameter)).To(Equal("3600\n"))
			run(ctx, backend, "echo 60 >"+parameter)
			Eventually(func() string { return run(ctx, backend, "cat "+parameter) }).Should(Equal("3600\n"))
		}, SpecTimeout(5*time.Minute))
	}

	It("[nft] recovers when somebody has removed everything", func(ctx SpecContext) {
		before := rules(ctx, "nft")
		run(ctx, "nft", "nft flush ruleset; "+iptables("nft", foreign))
		start := time.Now()
		Eventually(func() error { return asks(ctx, "nft") }).Should(Succeed())
		AddReportEntry("nft: everything removed", fmt.Sprintf("recovered in %.2f s", time.Since(start).Seconds()))
		Eventually(func() string { return rules(ctx, "nft") }).Should(Equal(before))
	}, SpecTimeout(5*time.Minute))

	It("tells of it in an event of the node", func(ctx SpecContext) {
		run(ctx, "nft", iptables("nft", "IPT -t nat -F SPROXY-SERVICES"))
		Eventually(func() []string {
			var list eventsv1.EventList
			Expect(world.Client().List(ctx, &list)).To(Succeed())
			var notes []string
			for _, e := range list.Items {
				if e.Reason == v1alpha1.ReasonChangedByOthers && e.Regarding.Name == "nft" {
					notes = append(notes, e.Note)
				}
			}
			return notes
		}).Should(ContainElement(ContainSubstring("in table nat of IPv4")))
		Eventually(func() error { return asks(ctx, "nft") }).Should(Succeed())
	}, SpecTimeout(5*time.Minute))

	It("reports and does no more where the pool wants no more", func(ctx SpecContext) {
		drift(ctx, v1alpha1.DriftReportOnly)
		DeferCleanup(func(ctx SpecContext) { drift(ctx, v1alpha1.DriftRepair) }, NodeTimeout(5*time.Minute))
		for _, backend := range backends {
			before, counted := rules(ctx, backend), repairs(ctx, backend)
			run(ctx, backend, iptables(backend, "IPT -t nat -I SPROXY-SERVICES -d 10.96.0.80 -j RETURN"))
			broken := rules(ctx, backend)
			Eventually(func() string { return drifted(ctx, backend) }).Should(
				And(HavePrefix("ChangedByOthers"), ContainSubstring("chain SPROXY-SERVICES in table nat of IPv4")))
			Expect(rules(ctx, backend)).To(Equal(broken))

			By("programming what changes in the cluster all the same")
			kubectl(ctx, "patch", "service", "nobody", "--type=merge", `--patch={"spec":{"selector":{"app":"web"}}}`)
			Eventually(func() error {
				_, err := pods["client-"+backend].Ask(ctx, "tcp", "10.96.0.82:80")
				return err
			}).Should(Succeed())
			kubectl(ctx, "patch", "service", "nobody", "--type=merge", `--patch={"spec":{"selector":{"app":"nobody"}}}`)
			Eventually(func() string { return rules(ctx, backend) }).Should(Equal(broken))
			Expect(drifted(ctx, backend)).To(ContainSubstring("chain SPROXY-SERVICES"))
			Expect(metric(ctx, backend, "serviceproxy_drift")).To(BeEquivalentTo(1))

			By("ceasing to report what was put right by hand")
			run(ctx, backend, iptables(backend, "IPT -t nat -D SPROXY-SERVICES 1"))
			Eventually(func() string { return drifted(ctx, backend) }).Should(BeEmpty())
			Expect(rules(ctx, backend)).To(Equal(before))
			Expect(repairs(ctx, backend)).To(Equal(counted))

			By("repairing once that is wanted again")
			run(ctx, backend, iptables(backend, "IPT -t nat -D SPROXY-SERVICES 1"))
			Eventually(func() string { return drifted(ctx, backend) }).ShouldNot(BeEmpty())
			drift(ctx, v1alpha1.DriftRepair)
			Eventually(func() string { return rules(ctx, backend) }).Should(Equal(before))
			Eventually(func() string { return drifted(ctx, backend) }).Should(BeEmpty())
			drift(ctx, v1alpha1.DriftReportOnly)
		}
	}, SpecTimeout(5*time.Minute))
})

// iptables puts iptables of a backend into a script.
func iptables(backend, script string) string {
	return strings.ReplaceAll(strings.ReplaceAll(script, "IPT-save", "iptables-"+backend+"-save"), "IPT", "iptables-"+backend)
}

// drift says what becomes of changes by others, and waits until the nodes know.
func drift(ctx context.Context, policy v1alpha1.DriftPolicy) {
	GinkgoHelper()
	kubectl(ctx, "patch", "serviceproxyconfig", "default", "--type=merge", fmt.Sprintf(`--patch={"spec":{"sync":{"drift":%q}}}`, policy))
	for _, backend := range backends {
		Eventually(func() bool {
			n := nodeOf(ctx, backend)
			return n.Spec.Sync.Drift == policy && n.Status.ObservedGeneration == n.Generation &&
				meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionReady)
		}).Should(BeTrue())
	}
}

// drifted is condition Drifted of a node; empty when it has none.
func drifted(ctx context.Context, node string) string {
	c := meta.FindStatusCondition(statusOf(ctx, node).Conditions, v1alpha1.ConditionDrifted)
	if c == nil {
		return ""
	}
	return c.Reason + ": " + c.Message
}
