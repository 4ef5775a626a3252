// Package dashboard runs every query of config/grafana, and asks for every metric of the alerts of config/prometheus,
// against what a live operator and a live agent serve, by Prometheus' own engine.
package dashboard

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

const root = "../.."

func TestDashboard(t *testing.T) {
	specs.Run(t, "test/dashboard")
}

// node is the one node there is.
const node = "one"

var (
	world *cluster.Cluster
	setup *install.Installation
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{node}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: root})
	Expect(err).NotTo(HaveOccurred())
	_, err = world.Kubectl(ctx, "apply", "--filename="+filepath.Join(root, "config/samples/serviceproxy.io_v1alpha1_serviceproxyconfig.yaml"))
	Expect(err).NotTo(HaveOccurred())
	_, err = world.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=2m", "serviceproxyconfig/default")
	Expect(err).NotTo(HaveOccurred())
})

// What operator and agent said, if a spec failed.
var _ = JustAfterEach(func() {
	if CurrentSpecReport().Failed() {
		for _, p := range []*cluster.Process{setup.Operator(), setup.Agent(node)} {
			GinkgoWriter.Printf("--- %s\n%s\n", p.LogFile(), p.Tail(40))
		}
	}
})
