// Package drift breaks what the agent wrote on live nodes, in every way that people and programs do, and the agent itself,
// and expects it to be put right with packets flowing.
package drift

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestDrift(t *testing.T) {
	specs.Run(t, "test/drift")
}

// The nodes are named after the backends of iptables that they use.
var backends = []string{"nft", "legacy"}

var (
	world *cluster.Cluster
	setup *install.Installation
	pods  map[string]*cluster.Pod
)

// Everything is compared once a day, so that nothing but what is tested here finds what has changed.
const manifests = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.0.80
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  clusterIP: 10.96.0.81
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  clusterIP: 10.96.0.82
  selector: {app: nobody}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: default}
spec:
  nodeSelector: {}
  mode: iptables
  sync: {fullIntervalSeconds: 86400}
  rollout: {maxUnavailable: 100%, minReadySeconds: 0, nodeChangeDelaySeconds: 0}
`

// foreign makes rules of others, which packets to Services must not come to first.
const foreign = "IPT -t nat -N FOREIGN || IPT -t nat -F FOREIGN; IPT -t nat -A FOREIGN -p udp -j RETURN; " +
	"IPT -t nat -A PREROUTING -j FOREIGN; IPT -t nat -A PREROUTING -p tcp -d 10.96.0.0/16 -j ACCEPT"

const webAddress = "10.96.0.80:80"

var _ = BeforeSuite(func(ctx SpecContext) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: backends})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	for _, backend := range backends {
		for _, program := range []string{"iptables", "ip6tables"} {
			// What a kubelet makes for others to see which backend the node uses (KEP-3178).
			run(ctx, backend, fmt.Sprintf("%s-%s -t mangle -N KUBE-IPTABLES-HINT", program, backend))
		}
		run(ctx, backend, iptables(backend, foreign))
	}
	setup, err = install.Start(ctx, world, install.Options{Root: "../..", Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	var specs []cluster.PodSpec
	for _, node := range backends {
		specs = append(specs, cluster.PodSpec{Name: "client-" + node, Node: node}, webPod("web-"+node, node))
	}
	running, err := world.RunPods(ctx, specs...)
	Expect(err).NotTo(HaveOccurred())
	pods = map[string]*cluster.Pod{}
	for _, pod := range running {
		pods[pod.Name] = pod
	}
	_, err = world.KubectlApply(ctx, manifests)
	Expect(err).NotTo(HaveOccurred())
	Expect(world.WaitForEndpoints(ctx, "default", "web", len(backends))).To(Succeed())
	for _, backend := range backends {
		Eventually(func() bool { return isReady(ctx, backend) }).Should(BeTrue())
		Eventually(func() error { return asks(ctx, backend) }).Should(Succeed())
		Expect(statusOf(ctx, backend).Capabilities.IPTablesBackend).To(BeEquivalentTo(backend))
	}
}, NodeTimeout(5*time.Minute))

// What everybody said, if a spec failed.
var _ = JustAfterEach(func() {
	if CurrentSpecReport().Failed() {
		GinkgoWriter.Printf("--- operator\n%s\n", setup.Operator().Tail(40))
		for _, backend := range backends {
			GinkgoWriter.Printf("--- %s: %+v\n%s\n", backend, statusOf(context.Background(), backend), setup.Agent(backend).Tail(40))
		}
	}
})

func webPod(name, node string) cluster.PodSpec {
	return cluster.PodSpec{Name: name, Node: node, Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
}

// run has a shell on a node run something.
func run(ctx context.Context, node, script string) string {
	GinkgoHelper()
	out, err := world.Node(node).Run(ctx, "sh", "-ec", script)
	Expect(err).NotTo(HaveOccurred(), "%s on node %s", script, node)
	return out
}

// asks has a pod and the node itself open a connection through the Service.
func asks(ctx context.Context, node string) error {
	if _, err := pods["client-"+node].Ask(ctx, "tcp", webAddress); err != nil {
		return err
	}
	_, err := world.Node(node).Ask(ctx, "tcp", webAddress)
	return err
}

func kubectl(ctx context.Context, args ...string) {
	GinkgoHelper()
	_, err := world.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
}

func nodeOf(ctx context.Context, node string) v1alpha1.ServiceProxyNode {
	GinkgoHelper()
	var spn v1alpha1.ServiceProxyNode
	if err := world.Client().Get(ctx, client.ObjectKey{Name: node}, &spn); err != nil {
		Expect(client.IgnoreNotFound(err)).To(Succeed())
	}
	return spn
}

func statusOf(ctx context.Context, node string) v1alpha1.ServiceProxyNodeStatus {
	GinkgoHelper()
	return nodeOf(ctx, node).Status
}

func isReady(ctx context.Context, node string) bool {
	return meta.IsStatusConditionTrue(statusOf(ctx, node).Conditions, v1alpha1.ConditionReady)
}

func repairs(ctx context.Context, node string) int {
	status := statusOf(ctx, node)
	if status.Sync == nil {
		return 0
	}
	return int(ptr.Deref(status.Sync.Repairs, 0))
}

// rules are the chains of ours on a node and all rules that are theirs or lead to them, in their order, of both families.
func rules(ctx context.Context, node string) string {
	GinkgoHelper()
	out := run(ctx, node, fmt.Sprintf("iptables-%[1]s-save; ip6tables-%[1]s-save", node))
	var kept []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, ":SPROXY") || strings.HasPrefix(line, "-A ") && (strings.Contains(line, "SPROXY") || strings.Contains(line, "PREROUTING")) {
			chain, _, _ := strings.Cut(line, "[")
			kept = append(kept, strings.TrimSpace(chain))
		}
	}
	return strings.Join(kept, "\n")
}
