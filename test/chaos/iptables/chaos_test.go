// Package iptables runs the chaos suite on the running kernel, with nodes of both backends of iptables in one cluster.
package iptables

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/chaos"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestChaos(t *testing.T) {
	specs.Run(t, "test/chaos/iptables")
}

var _ = Describe("Nodes in mode iptables", func() {
	It("lose nothing, whatever happens", func(ctx SpecContext) {
		ctrllog.SetLogger(GinkgoLogr)
		seed, steps, err := chaos.Drawn(30)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("chaos", fmt.Sprintf("CHAOS_SEED=%d CHAOS_STEPS=%d", seed, steps))
		world, err := cluster.Start(ctx, cluster.Options{Nodes: []string{"nft", "legacy"}})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(world.Stop)
		for _, node := range world.Nodes() {
			for _, program := range []string{"iptables", "ip6tables"} {
				// What a kubelet makes for others to see which backend the node uses (KEP-3178).
				_, err := node.Run(ctx, fmt.Sprintf("%s-%s", program, node.Name), "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
				Expect(err).NotTo(HaveOccurred())
			}
		}
		setup, err := install.Start(ctx, world, install.Options{Root: "../../..", Verbosity: 2})
		Expect(err).NotTo(HaveOccurred())
		w, err := chaos.New(ctx, seed, chaos.Options{
			Cluster: world, Setup: setup, Mode: v1alpha1.ModeIPTables, Log: GinkgoWriter,
			Backend: func(node string) string { return node },
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(w.Stop)
		if err := w.Run(ctx, steps); err != nil {
			Fail(fmt.Sprintf("CHAOS_SEED=%d CHAOS_STEPS=%d: %v", seed, steps, err))
		}
	}, SpecTimeout(2*time.Hour))
})
