// Package ipvs runs the chaos suite on a kernel that has IPVS, with nodes that go from mode to mode.
package ipvs

import (
	"fmt"
	"os"
	"runtime"
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

func TestMain(m *testing.M) {
	// Streams wait in system calls, each with one of Go's processors, of which there is only one where there is one CPU.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 8))
	os.Exit(cluster.Main(m, cluster.Options{}))
}

func TestChaos(t *testing.T) {
	specs.Run(t, "test/chaos/ipvs")
}

var _ = Describe("Nodes in mode IPVS", func() {
	It("lose nothing, whatever happens", func(ctx SpecContext) {
		ctrllog.SetLogger(GinkgoLogr)
		seed, steps, err := chaos.Drawn(6)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("chaos", fmt.Sprintf("CHAOS_SEED=%d CHAOS_STEPS=%d", seed, steps))
		world, err := cluster.Join(ctx, cluster.Options{Nodes: []string{"a", "b"}})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(world.Stop)
		setup, err := install.Start(ctx, world, install.Options{Root: "../../..", Verbosity: 2})
		Expect(err).NotTo(HaveOccurred())
		w, err := chaos.New(ctx, seed, chaos.Options{
			Cluster: world, Setup: setup, Mode: v1alpha1.ModeIPVS, Joined: true, SwitchesModes: true, Log: GinkgoWriter,
			Backend: func(string) string { return "legacy" },
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(w.Stop)
		if err := w.Run(ctx, steps); err != nil {
			Fail(fmt.Sprintf("CHAOS_SEED=%d CHAOS_STEPS=%d: %v", seed, steps, err))
		}
	}, SpecTimeout(12*time.Hour)) // user-mode Linux takes ten seconds for a step
})
