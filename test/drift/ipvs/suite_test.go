// Package ipvs breaks what the agent wrote in mode IPVS on a live node, and the agent itself while the node goes from mode to
// mode, and expects it to be put right with packets flowing.
package ipvs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
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
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestMain(m *testing.M) {
	// Streams wait in system calls, each with one of Go's processors, of which there is only one where there is one CPU.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 8))
	os.Exit(cluster.Main(m, cluster.Options{}))
}

func TestDrift(t *testing.T) {
	specs.Run(t, "test/drift/ipvs")
}

var (
	world     *cluster.Cluster
	setup     *install.Installation
	clientPod *cluster.Pod
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
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: default}
spec:
  nodeSelector: {}
  mode: IPVS
  sync: {fullIntervalSeconds: 86400}
  rollout: {maxUnavailable: 100%, minReadySeconds: 0, nodeChangeDelaySeconds: 0}
`

const webAddress = "10.96.0.80:80"

var _ = BeforeSuite(func(ctx SpecContext) {
	ctrllog.SetLogger(GinkgoLogr)
	// Where IPVS may run, starting a program takes long, and an agent starts dozens before it is ready.
	SetDefaultEventuallyTimeout(3 * time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Join(ctx, cluster.Options{Nodes: []string{"a"}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: "../../..", Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	running, err := world.RunPods(ctx, cluster.PodSpec{Name: "client", Node: "a"}, webPod("web-1"), webPod("web-2"))
	Expect(err).NotTo(HaveOccurred())
	for _, pod := range running {
		if pod.Name == "client" {
			clientPod = pod
		}
	}
	_, err = world.KubectlApply(ctx, manifests)
	Expect(err).NotTo(HaveOccurred())
	Expect(world.WaitForEndpoints(ctx, "default", "web", 2)).To(Succeed())
	ready(ctx, v1alpha1.ModeIPVS)
}, NodeTimeout(8*time.Minute))

var _ = JustAfterEach(func() {
	if CurrentSpecReport().Failed() {
		GinkgoWriter.Println(said())
	}
})

// said is what the agent said last.
func said() string {
	return fmt.Sprintf("%+v\n%s", statusOf(context.Background()), setup.Agent("a").Tail(60))
}

func webPod(name string) cluster.PodSpec {
	return cluster.PodSpec{Name: name, Node: "a", Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
}

func run(ctx context.Context, script string) string {
	GinkgoHelper()
	out, err := world.Node("a").Run(ctx, "sh", "-ec", script)
	Expect(err).NotTo(HaveOccurred(), script)
	return out
}

// asks has a pod and the node itself open connections through the Service, one to each endpoint.
func asks(ctx context.Context) error {
	for _, host := range []*cluster.Host{clientPod.Host, world.Node("a").Host} {
		for range 2 {
			if _, err := host.Ask(ctx, "tcp", webAddress); err != nil {
				return err
			}
		}
	}
	return nil
}

func statusOf(ctx context.Context) v1alpha1.ServiceProxyNodeStatus {
	GinkgoHelper()
	var spn v1alpha1.ServiceProxyNode
	if err := world.Client().Get(ctx, client.ObjectKey{Name: "a"}, &spn); err != nil {
		Expect(client.IgnoreNotFound(err)).To(Succeed())
	}
	return spn.Status
}

// ready waits until the node runs a mode.
func ready(ctx context.Context, mode v1alpha1.Mode) {
	GinkgoHelper()
	Eventually(func() bool {
		status := statusOf(ctx)
		return status.Mode == mode && meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady)
	}).Should(BeTrue(), said)
}

// switchTo takes the pool to a mode, and does not wait for the node.
func switchTo(ctx context.Context, mode v1alpha1.Mode) {
	GinkgoHelper()
	config := &v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"mode":%q}}`, mode))
	Expect(world.Client().Patch(ctx, config, patch)).To(Succeed())
}

// servers do something to the virtual servers of the node.
func servers(do func(k *virtualserver.Kernel) error) {
	GinkgoHelper()
	Expect(world.Node("a").Do(func() error {
		k, err := virtualserver.Open()
		if err != nil {
			return err
		}
		return errors.Join(do(k), k.Close())
	})).To(Succeed())
}
