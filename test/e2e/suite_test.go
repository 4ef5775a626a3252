// Package e2e tests the whole path: what people apply with kubectl, an operator, an agent on every node, and packets
// through the kernel, on good days and bad ones.
package e2e

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"net/netip"
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

// root is the folder of the repository.
const root = "../.."

func TestE2E(t *testing.T) {
	specs.Run(t, "test/e2e")
}

// The two nodes that all specs share are named after the backend of iptables that they use.
const (
	nft    = "nft"
	legacy = "legacy"
)

var (
	world *cluster.Cluster
	setup *install.Installation
	pods  map[string]*cluster.Pod
)

//go:embed testdata/services.yaml
var services string

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{nft, legacy}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)

	// A kubelet leaves this chain in the backend that the node uses (KEP-3178).
	for _, command := range []string{"iptables-legacy", "ip6tables-legacy"} {
		_, err = world.Node(legacy).Run(ctx, command, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
		Expect(err).NotTo(HaveOccurred())
	}
	setup, err = install.Start(ctx, world, install.Options{Root: root, Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	pods = runPods(ctx)
	apply(ctx, services)
	kubectl(ctx, "apply", "--filename="+root+"/config/samples/serviceproxy.io_v1alpha1_serviceproxyconfig.yaml")
	for _, name := range []string{"default", "edge"} {
		// A change is to reach both nodes at once: how it rolls is tried elsewhere.
		kubectl(ctx, "patch", "spc", name, "--type=merge",
			`--patch={"spec":{"rollout":{"maxUnavailable":"100%","minReadySeconds":0,"nodeChangeDelaySeconds":0}}}`)
	}
	kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=30s", "spc", "--all")
	Expect(world.WaitForEndpoints(ctx, "default", "web", 4)).To(Succeed())
	for _, node := range world.Nodes() {
		Eventually(asking(ctx, node.Host, address(ctx, "solo", 80, ipv6))).Should(Succeed())
	}
})

// What operator and agents said, if a spec failed.
var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	for _, p := range []*cluster.Process{setup.Operator(), setup.Agent(nft), setup.Agent(legacy)} {
		GinkgoWriter.Printf("--- %s\n%s\n", p.LogFile(), p.Tail(40))
	}
})

// runPods runs two web pods, and a client that no Service selects, on each node, and one solo pod.
func runPods(ctx context.Context) map[string]*cluster.Pod {
	GinkgoHelper()
	specs := []cluster.PodSpec{webPod("solo", nft)}
	specs[0].Labels = map[string]string{"app": "solo"}
	for _, node := range []string{nft, legacy} {
		specs = append(specs, cluster.PodSpec{Name: "client-" + node, Node: node})
		for i := range 2 {
			specs = append(specs, webPod(fmt.Sprintf("web-%s-%d", node, i+1), node))
		}
	}
	running, err := world.RunPods(ctx, specs...)
	Expect(err).NotTo(HaveOccurred())
	named := map[string]*cluster.Pod{}
	for _, pod := range running {
		named[pod.Name] = pod
	}
	return named
}

// webPod is a pod of Service web.
func webPod(name, node string) cluster.PodSpec {
	return cluster.PodSpec{
		Name: name, Node: node, Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8080},
			{Name: "admin", ContainerPort: 9000},
			{Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP},
		},
	}
}

// family is an IP family.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// of returns the address of a host in the family.
func (f family) of(h *cluster.Host) netip.Addr {
	if f == ipv4 {
		return h.IPv4
	}
	return h.IPv6
}

// on is a port of a host.
func (f family) on(h *cluster.Host, port int) string {
	return net.JoinHostPort(f.of(h).String(), fmt.Sprint(port))
}
