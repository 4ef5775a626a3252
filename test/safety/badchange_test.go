package safety

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// quiet is how long nothing must happen for it to be said that nothing happens.
const quiet = 2 * time.Second

var _ = Describe("The life of one bad change", Ordered, func() {
	const good, better = 14, 15
	var canary, before string

	It("begins with a pool that is well", func(ctx context.Context) {
		pool(ctx, good)
		Eventually(poolIs(ctx, v1alpha1.ConditionReady)).Should(HavePrefix("True/" + v1alpha1.ReasonAllNodesReady))
		for _, node := range world.Nodes() {
			reaches(ctx, node.Name)
			n, err := get(ctx, node.Name)
			Expect(err).NotTo(HaveOccurred())
			before = n.Status.AppliedRevision
		}
	})

	It("breaks a probe on the canary, which returns by itself", func(ctx context.Context) {
		pool(ctx, firewallBit)
		Eventually(func() []string { return failed(ctx) }).Should(HaveLen(1))
		canary = failed(ctx)[0]
		reaches(ctx, canary)
		Expect(rules(ctx, canary)()).NotTo(ContainSubstring(firewallMark))
		Eventually(func(g Gomega) {
			n, err := get(ctx, canary)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(n.Status.AppliedRevision).To(Equal(before))
			g.Expect(n.Status.FailedRevision).To(Equal(n.Spec.Revision))
		}).Should(Succeed())
		Eventually(nodeIs(ctx, canary, v1alpha1.ConditionRolledBack)).Should(And(
			HavePrefix("True/"+v1alpha1.ReasonProbeFailed), ContainSubstring("API server (Service default/kubernetes at 10.96.0.1:443)")))
		Eventually(nodeIs(ctx, canary, v1alpha1.ConditionReady)).Should(HavePrefix("False/" + v1alpha1.ReasonProbeFailed))
	})

	It("stops at the canary, and says where and why", func(ctx context.Context) {
		Eventually(poolIs(ctx, v1alpha1.ConditionStalled)).Should(And(
			HavePrefix("True/"+v1alpha1.ReasonRolloutHalted), ContainSubstring(canary), ContainSubstring("API server")))
		for _, node := range world.Nodes() {
			n, err := get(ctx, node.Name)
			Expect(err).NotTo(HaveOccurred())
			if node.Name != canary {
				Expect(n.Spec.Revision).To(Equal(before), node.Name)
				Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)).Should(HavePrefix("True/"))
			}
		}
	})

	It("is not tried again, by no restart of the agent", func(ctx context.Context) {
		restart(ctx, canary)
		Consistently(rules(ctx, canary)).WithTimeout(quiet).Should(Not(ContainSubstring(firewallMark)))
		Eventually(nodeIs(ctx, canary, v1alpha1.ConditionRolledBack)).Should(HavePrefix("True/" + v1alpha1.ReasonProbeFailed))
		reaches(ctx, canary)
	})

	It("ends with a spec that is put right", func(ctx context.Context) {
		pool(ctx, better)
		Eventually(poolIs(ctx, v1alpha1.ConditionReady)).Should(HavePrefix("True/" + v1alpha1.ReasonAllNodesReady))
		for _, node := range world.Nodes() {
			reaches(ctx, node.Name)
			Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionRolledBack)).Should(HavePrefix("False/"))
		}
		Eventually(failed).WithArguments(ctx).Should(BeEmpty())
	})

	It("ends in the same way when the API server goes away before the node has found out", func(ctx context.Context) {
		pool(ctx, firewallBit)
		var trying string
		Eventually(func() bool {
			for _, node := range world.Nodes() {
				if out, err := rules(ctx, node.Name)(); err == nil && strings.Contains(out, firewallMark) {
					trying = node.Name
				}
			}
			return trying != ""
		}).Should(BeTrue())
		Expect(world.StopAPIServer(ctx)).To(Succeed())
		Eventually(rules(ctx, trying)).ShouldNot(ContainSubstring(firewallMark))
		restart(ctx, trying)
		Consistently(rules(ctx, trying)).WithTimeout(quiet).Should(And(ContainSubstring("SPROXY"), Not(ContainSubstring(firewallMark))))

		Expect(world.StartAPIServer(ctx)).To(Succeed())
		Eventually(nodeIs(ctx, trying, v1alpha1.ConditionRolledBack)).Should(HavePrefix("True/" + v1alpha1.ReasonProbeFailed))
		Consistently(rules(ctx, trying)).WithTimeout(quiet).Should(Not(ContainSubstring(firewallMark)))
		reaches(ctx, trying)
	})
})
