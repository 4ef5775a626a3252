package iptables_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

var _ = Describe("What the kernel holds of ours", func() {
	onBothBackends("is nothing among rules of others, something after a write, and nothing after a cleanup", func(ctx context.Context, k *kernel) {
		tools := probe(ctx)
		holds := func() bool {
			GinkgoHelper()
			held, err := iptables.Holds(ctx, tools)
			Expect(err).NotTo(HaveOccurred())
			return held
		}
		k.run("iptables", "-t", "nat", "-N", "KUBE-SERVICES")
		k.run("iptables", "-t", "nat", "-A", "KUBE-SERVICES", "-m", "comment", "--comment", ":SPROXY-SERVICES -", "-j", "RETURN")
		Expect(holds()).To(BeFalse())
		w := newWorld(scenario.Defaults())
		_, err := iptables.New(tools, w.settings).Apply(ctx, w.set("a 172.30.0.1 80 -> 10.180.0.1"))
		Expect(err).NotTo(HaveOccurred())
		Expect(holds()).To(BeTrue())
		Expect(iptables.Cleanup(ctx)).To(Succeed())
		Expect(holds()).To(BeFalse())
	})
})
