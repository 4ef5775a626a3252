package ipvs_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
)

var _ = Describe("What the kernel holds of ours", func() {
	It("is nothing beside a virtual server of somebody else, something after a write, and nothing after a cleanup", func(ctx context.Context) {
		n := newNode(ctx)
		newForeign(ctx)
		holds := func() bool {
			GinkgoHelper()
			held, err := ipvs.Holds(ctx, n.tools)
			Expect(err).NotTo(HaveOccurred())
			return held
		}
		Expect(holds()).To(BeFalse())
		apply(ctx, n.start(), n.update("a 172.30.0.41 80 -> 10.180.0.1"))
		Expect(holds()).To(BeTrue())
		for _, programs := range n.tools.Families {
			Expect(programs.Remove(ctx, "SPROXYVS-", "filter", "mangle", "nat")).To(Succeed())
		}
		Expect(holds()).To(BeTrue(), "the sets are still there")
		Expect(ipvs.Cleanup(ctx)).To(Succeed())
		Expect(holds()).To(BeFalse())
	})
})
