package safety

import (
	"context"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestSafety(t *testing.T) {
	specs.Run(t, "test/safety")
}

var (
	world *cluster.Cluster
	setup *install.Installation
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(3 * time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{
		Nodes: []string{"one", "two", "three"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: "../..", Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	for _, node := range world.Nodes() {
		// An administrator's firewall, which happens to use a bit of the mark that nothing else uses yet.
		_, err := node.Run(ctx, "iptables-nft", "-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "--mark", firewallMark+"/"+firewallMark, "-j", "DROP")
		Expect(err).NotTo(HaveOccurred())
	}
})

// What everybody said, if a spec failed.
var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	processes := []*cluster.Process{setup.Operator()}
	for _, node := range world.Nodes() {
		processes = append(processes, setup.Agent(node.Name))
	}
	for _, p := range processes {
		GinkgoWriter.Printf("--- %s\n%s\n", p.LogFile(), p.Tail(40))
	}
})

// Bit 20 of the mark is the firewall's, which drops what has it.
const (
	firewallBit  = 20
	firewallMark = "0x100000"
)

// pool applies a pool of all nodes, one canary first, which masquerades everything by a bit of the mark.
func pool(ctx context.Context, bit int) {
	GinkgoHelper()
	_, err := world.KubectlApply(ctx, fmt.Sprintf(`
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: pool}
spec:
  nodeSelector: {}
  mode: iptables
  masquerade: {policy: All, bit: %d}
  rollout: {canary: {nodes: 1, bakeSeconds: 0}, minReadySeconds: 0}
`, bit))
	Expect(err).NotTo(HaveOccurred())
}

// text is a condition as STATUS/REASON: MESSAGE.
func text(conditions []metav1.Condition, kind string, generation int64) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.ObservedGeneration != generation {
		return "not observed"
	}
	return fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message)
}

// poolIs is a condition of the pool.
func poolIs(ctx context.Context, kind string) func() string {
	return func() string {
		var c v1alpha1.ServiceProxyConfig
		if err := world.Client().Get(ctx, client.ObjectKey{Name: "pool"}, &c); err != nil {
			return err.Error()
		}
		return text(c.Status.Conditions, kind, c.Generation)
	}
}

// nodeIs is a condition of a node.
func nodeIs(ctx context.Context, name, kind string) func() string {
	return func() string {
		n, err := get(ctx, name)
		if err != nil {
			return err.Error()
		}
		return text(n.Status.Conditions, kind, n.Generation)
	}
}

func get(ctx context.Context, name string) (*v1alpha1.ServiceProxyNode, error) {
	var n v1alpha1.ServiceProxyNode
	err := world.Client().Get(ctx, client.ObjectKey{Name: name}, &n)
	return &n, err
}

// failed are the nodes that took settings back.
func failed(ctx context.Context) []string {
	var names []string
	for _, node := range world.Nodes() {
		if n, err := get(ctx, node.Name); err == nil && n.Status.FailedRevision != "" {
			names = append(names, node.Name)
		}
	}
	return names
}

// rules are what a node has in table nat.
func rules(ctx context.Context, node string) func() (string, error) {
	return func() (string, error) { return world.Node(node).Run(ctx, "iptables-nft-save", "-t", "nat") }
}

// reaches expects that a node reaches the API server through its Service.
func reaches(ctx context.Context, node string) {
	GinkgoHelper()
	Eventually(func() error {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		conn, err := world.Node(node).Dial(ctx, "tcp", "10.96.0.1:443")
		if err != nil {
			return err
		}
		return conn.Close()
	}).Should(Succeed())
}

// dialTime leaves TCP time to send a lost SYN again.
const dialTime = 5 * time.Second

// restart kills the agent of a node and starts it again.
func restart(ctx context.Context, node string) {
	GinkgoHelper()
	setup.Agent(node).Kill()
	Expect(setup.StartAgent(ctx, world.Node(node))).To(Succeed())
}
