// Package modeswitch takes live nodes from one mode to the other and back, under connections that are held and others that
// are opened all the time.
package modeswitch

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// root is the folder of the repository.
const root = "../.."

func TestMain(m *testing.M) {
	// Streams wait in system calls, each with one of Go's processors, of which there is only one where there is one CPU.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 8))
	os.Exit(cluster.Main(m, cluster.Options{}))
}

func TestModeSwitch(t *testing.T) {
	specs.Run(t, "test/modeswitch")
}

var (
	world *cluster.Cluster
	setup *install.Installation
	pods  map[string]*cluster.Pod
)

const manifests = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  selector: {app: web}
  ports: [{name: dns, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: default}
spec:
  nodeSelector: {}
  mode: iptables
  rollout: {maxUnavailable: 100%, minReadySeconds: 0, nodeChangeDelaySeconds: 0}
`

var _ = BeforeSuite(func(ctx SpecContext) {
	ctrllog.SetLogger(GinkgoLogr)
	// Where IPVS may run, starting a program takes long, and an agent starts dozens before it is ready.
	SetDefaultEventuallyTimeout(3 * time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Join(ctx, cluster.Options{Nodes: []string{"a", "b"}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: root, Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	var specs []cluster.PodSpec
	for _, node := range []string{"a", "b"} {
		specs = append(specs, cluster.PodSpec{Name: "client-" + node, Node: node})
		for i := range 2 {
			specs = append(specs, webPod(fmt.Sprintf("web-%s-%d", node, i+1), node))
		}
	}
	running, err := world.RunPods(ctx, specs...)
	Expect(err).NotTo(HaveOccurred())
	pods = map[string]*cluster.Pod{}
	for _, pod := range running {
		pods[pod.Name] = pod
	}
	_, err = world.KubectlApply(ctx, manifests)
	Expect(err).NotTo(HaveOccurred())
	Expect(world.WaitForEndpoints(ctx, "default", "web", 4)).To(Succeed())
	ready(ctx, v1alpha1.ModeIPTables)
}, NodeTimeout(8*time.Minute))

// said is what operator and agents said last.
func said() string {
	var all strings.Builder
	for _, node := range []string{"a", "b"} {
		fmt.Fprintf(&all, "--- node %s: %+v\n", node, statusOf(context.Background(), node).Conditions)
	}
	for _, p := range []*cluster.Process{setup.Operator(), setup.Agent("a"), setup.Agent("b")} {
		fmt.Fprintf(&all, "--- %s\n%s\n", p.LogFile(), p.Tail(40))
	}
	return all.String()
}

// tracked is what the kernel knows of connections that are not open: a failure says from which port it was.
func tracked() string {
	var all strings.Builder
	for _, node := range []string{"a", "b"} {
		for _, command := range []string{"cat /proc/net/ip_vs_conn", "conntrack -L -p tcp 2>/dev/null"} {
			out, err := world.Node(node).Run(context.Background(), "bash", "-c", command)
			fmt.Fprintf(&all, "--- node %s: %s: %v\n%s\n", node, command, err, out)
		}
	}
	return all.String()
}

var _ = JustAfterEach(func() {
	if CurrentSpecReport().Failed() {
		GinkgoWriter.Println(tracked())
		GinkgoWriter.Println(said())
	}
})

func webPod(name, node string) cluster.PodSpec {
	return cluster.PodSpec{
		Name: name, Node: node, Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8080},
			{Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP},
		},
	}
}

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := world.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// statusOf is the status of a node.
func statusOf(ctx context.Context, node string) v1alpha1.ServiceProxyNodeStatus {
	GinkgoHelper()
	var spn v1alpha1.ServiceProxyNode
	if err := world.Client().Get(ctx, client.ObjectKey{Name: node}, &spn); err != nil {
		Expect(client.IgnoreNotFound(err)).To(Succeed())
	}
	return spn.Status
}

// ready waits until every node runs a mode. It does not ask by kubectl: programs start slowly where IPVS may run.
func ready(ctx context.Context, mode v1alpha1.Mode) {
	GinkgoHelper()
	for _, node := range []string{"a", "b"} {
		Eventually(func() bool {
			status := statusOf(ctx, node)
			return status.Mode == mode && meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady)
		}).Should(BeTrue(), said)
	}
}

// change takes the pool to a mode.
func change(ctx context.Context, mode v1alpha1.Mode) {
	GinkgoHelper()
	patch(ctx, fmt.Sprintf(`{"spec":{"mode":%q}}`, mode))
	ready(ctx, mode)
}

// patch changes the config, as kubectl patch --type=merge does.
func patch(ctx context.Context, text string) {
	GinkgoHelper()
	config := &v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	Expect(world.Client().Patch(ctx, config, client.RawPatch(types.MergePatchType, []byte(text)))).To(Succeed())
}

// clusterIP is where a Service answers, in IPv4.
func clusterIP(ctx context.Context, service, port string) string {
	GinkgoHelper()
	return net.JoinHostPort(kubectl(ctx, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}"), port)
}

func nodePort(node, port string) string {
	return net.JoinHostPort(world.Node(node).IPv4.String(), port)
}
