package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/kernel"
)

var _ = Describe("Mode IPVS", func() {
	It("is taken over where the kernel has it, and else refused by name of the module, with nothing changed and nobody disturbed", func(ctx context.Context) {
		crowd := gather(ctx)
		DeferCleanup(func(ctx context.Context) {
			kubectl(ctx, "patch", "spc", "default", "--type=merge", `--patch={"spec":{"mode":"iptables"}}`)
			Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
		})
		before := rulesOf(ctx, world.Node(nft))
		kubectl(ctx, "patch", "spc", "default", "--type=merge", `--patch={"spec":{"mode":"IPVS"}}`)
		if kernel.HasIPVS() {
			Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
			Expect(proxyNode(ctx, nft).Status.Mode).To(Equal(v1alpha1.ModeIPVS))
			crowd.isUndisturbed()
			return
		}
		Eventually(nodeIs(ctx, nft, v1alpha1.ConditionAccepted)).Should(Equal("False/" + v1alpha1.ReasonKernelModuleMissing))
		status := proxyNode(ctx, nft).Status
		Expect(meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAccepted).Message).To(ContainSubstring("ip_vs"))
		Expect(status.Mode).To(Equal(v1alpha1.ModeIPTables))
		Expect(status.Capabilities.IPVS).To(Equal(v1alpha1.CapabilityUnavailable))
		Expect(rulesOf(ctx, world.Node(nft))).To(Equal(before))
		crowd.isUndisturbed()
	})
})
