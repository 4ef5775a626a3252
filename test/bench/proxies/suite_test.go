package main

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestProxies(t *testing.T) {
	ctrllog.SetLogger(GinkgoLogr)
	specs.Run(t, "test/bench/proxies")
}

var _ = Describe("A small run", func() {
	It("measures everything of everybody who takes part", func(ctx context.Context) {
		results, err := measure(ctx, Options{
			Root: "../../..", Sizes: []int{20}, PerService: 1, Changes: 2, Churn: 300 * time.Millisecond, Mass: time.Second, Idle: 100 * time.Millisecond,
			Rounds: 30, NodePorts: 20, Endpoints: 40, Flows: 2_000, Edges: true, Only: []string{agentNFT, agentLegacy, proxyTables},
		}, GinkgoWriter.Printf)
		Expect(err).NotTo(HaveOccurred())
		judged := map[string]bool{}
		for _, g := range results.judge() {
			judged[g.Metric] = true
		}
		for _, a := range aims() {
			if a.from == 0 && a.metric != ceilingServices && a.of != proxyNFT && a.of != proxyLegacy && a.of != same {
				Expect(judged).To(HaveKey(a.metric))
			}
		}
		for _, name := range []string{agentNFT, agentLegacy} {
			left, measured := results.get(name, flowsLeft, 0)
			Expect(measured).To(BeTrue())
			Expect(left).To(BeZero(), name)
			written, measured := results.get(name, restartChains, 20)
			Expect(measured).To(BeTrue())
			Expect(written).To(BeZero(), name)
		}
	})

	It("measures how many Services are kept up with", func(ctx context.Context) {
		results, err := measure(ctx, Options{
			Root: "../../..", Sizes: []int{20, 30}, PerService: 3, Churn: 300 * time.Millisecond, Ceiling: true, Only: []string{agentNFT, agentLegacy},
		}, GinkgoWriter.Printf)
		Expect(err).NotTo(HaveOccurred())
		for _, name := range []string{agentNFT, agentLegacy} {
			carried, _ := results.get(name, ceilingServices, 0)
			Expect(carried).To(BeEquivalentTo(30), name)
		}
	})
})
