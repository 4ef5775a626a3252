package handover

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// root is the folder of the repository.
const root = "../.."

func TestHandover(t *testing.T) {
	specs.Run(t, "test/handover")
}

var (
	world *cluster.Cluster
	setup *install.Installation
	// clients are pods that no Service selects, by the names of their nodes.
	clients map[string]*cluster.Pod
)

//go:embed testdata/services.yaml
var services string

//go:embed testdata/config.yaml
var config string

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"one", "two"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: root, Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	var specs []cluster.PodSpec
	for _, node := range world.Nodes() {
		specs = append(specs, cluster.PodSpec{Name: "client-" + node.Name, Node: node.Name})
		for i := range 2 {
			specs = append(specs, cluster.PodSpec{
				Name: fmt.Sprintf("web-%s-%d", node.Name, i), Node: node.Name, Labels: map[string]string{"app": "web"},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP}},
			})
		}
	}
	running, err := world.RunPods(ctx, specs...)
	Expect(err).NotTo(HaveOccurred())
	clients = map[string]*cluster.Pod{}
	for _, pod := range running {
		if node, is := strings.CutPrefix(pod.Name, "client-"); is {
			clients[node] = pod
		}
	}
	for _, manifests := range []string{services, config} {
		_, err = world.KubectlApply(ctx, manifests)
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(world.WaitForEndpoints(ctx, "default", "web", 4)).To(Succeed())
})

// What everybody said, if a spec failed.
var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	for _, p := range []*cluster.Process{setup.Operator(), setup.Agent("one"), setup.Agent("two")} {
		GinkgoWriter.Printf("--- %s\n%s\n", p.LogFile(), p.Tail(40))
	}
})

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := world.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// condition is a condition of a node as STATUS/REASON: MESSAGE.
func condition(ctx context.Context, node, kind string) func() string {
	return func() string {
		var object v1alpha1.ServiceProxyNode
		if err := world.Client().Get(ctx, client.ObjectKey{Name: node}, &object); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(object.Status.Conditions, kind)
		if c == nil || c.ObservedGeneration != object.Generation {
			return "missing, or of another generation"
		}
		return fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message)
	}
}
