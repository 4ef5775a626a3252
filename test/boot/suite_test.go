// Package boot starts nodes that have lost everything the kernel knew, as after a boot, while the API server is away or
// answers in part.
package boot

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
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
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestBoot(t *testing.T) {
	specs.Run(t, "test/boot")
}

var (
	world *cluster.Cluster
	setup *install.Installation
	// node is the one that boots, and there are pods on it and on another.
	node *cluster.Node
	pod  *cluster.Pod
	// asked is how often was asked.
	asked atomic.Uint32
)

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
  mode: iptables
  rollout: {maxUnavailable: 100%, minReadySeconds: 0, nodeChangeDelaySeconds: 0}
`

const webAddress = "10.96.0.80:80"

var _ = BeforeSuite(func(ctx SpecContext) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"boots", "other"}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: "../..", Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	running, err := world.RunPods(ctx, cluster.PodSpec{Name: "client", Node: "boots"}, webPod("web-here", "boots"), webPod("web-there", "other"))
	Expect(err).NotTo(HaveOccurred())
	node, pod = world.Node("boots"), running[0]
	_, err = world.KubectlApply(ctx, manifests)
	Expect(err).NotTo(HaveOccurred())
	Expect(world.WaitForEndpoints(ctx, "default", "web", 2)).To(Succeed())
}, NodeTimeout(5*time.Minute))

// Every spec begins with a node that is ready and has kept what it programmed, and the API server there.
var _ = BeforeEach(func(ctx SpecContext) {
	Eventually(func() string { return condition(ctx, v1alpha1.ConditionReady).Reason }).Should(Equal(v1alpha1.ReasonSynced))
	Eventually(func() error { return asks(ctx) }).Should(Succeed())
	Eventually(func() bool {
		s, err := state().Table()
		return err == nil && s != nil && knowsWeb(s.Entries)
	}).Should(BeTrue(), "the last Services and endpoints are not on disk")
}, NodeTimeout(5*time.Minute))

// What the agent said, if a spec failed.
var _ = JustAfterEach(func() {
	if CurrentSpecReport().Failed() {
		GinkgoWriter.Println(setup.Agent(node.Name).Tail(60))
	}
})

func webPod(name, node string) cluster.PodSpec {
	return cluster.PodSpec{Name: name, Node: node, Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
}

// state is what the agent of the node keeps on disk.
func state() laststate.Folder {
	GinkgoHelper()
	dir, err := node.Dir()
	Expect(err).NotTo(HaveOccurred())
	return laststate.Folder(filepath.Join(dir, "service-proxy"))
}

// shutDown stops the agent and takes from the kernel all that was ever written.
func shutDown(ctx context.Context) {
	GinkgoHelper()
	Expect(setup.Agent(node.Name).Stop(ctx)).To(Succeed())
	cleanUp(ctx, GinkgoT().TempDir())
	Expect(asks(ctx)).NotTo(Succeed())
}

// cleanUp has an agent that keeps its state in some folder remove everything of its node.
func cleanUp(ctx context.Context, folder string) {
	GinkgoHelper()
	out, err := node.Run(ctx, setup.AgentProgram(), "cleanup", "--state-dir="+folder)
	Expect(err).NotTo(HaveOccurred(), out)
}

// isAway stops the API server until the end of the spec, or until isBack.
func isAway(ctx context.Context) (isBack func(ctx context.Context)) {
	GinkgoHelper()
	Expect(world.StopAPIServer(ctx)).To(Succeed())
	away := true
	isBack = func(ctx context.Context) {
		if !away {
			return
		}
		Expect(world.StartAPIServer(ctx)).To(Succeed())
		away = false
		select {
		case <-setup.Operator().Done(): // It ends when it cannot renew its lease; a Deployment starts it again.
			Expect(setup.StartOperator(ctx)).To(Succeed())
		default:
		}
	}
	DeferCleanup(isBack)
	return isBack
}

// starts starts the agent.
func starts(ctx context.Context) {
	GinkgoHelper()
	Expect(setup.StartAgent(ctx, node)).To(Succeed())
}

// asks opens a connection through the Service in every way: from a pod, from the node, and from outside. It asks from ports that
// nobody else is given. What was sent while there were no rules, connection tracking leaves untranslated for two minutes, and a
// connection of a stream that happened to get the same port would follow it and be refused.
func asks(ctx context.Context) error {
	port := uint16(12000 + asked.Add(1)%18000)
	if _, err := pod.AskFrom(ctx, "tcp", webAddress, port); err != nil {
		return fmt.Errorf("from a pod: %w", err)
	}
	if _, err := node.AskFrom(ctx, "tcp", webAddress, port); err != nil {
		return fmt.Errorf("from the node: %w", err)
	}
	if _, err := world.Outside().AskFrom(ctx, "tcp", net.JoinHostPort(node.Addresses()[0].String(), "30080"), port); err != nil {
		return fmt.Errorf("from outside: %w", err)
	}
	return nil
}

func condition(ctx context.Context, kind string) metav1.Condition {
	GinkgoHelper()
	var spn v1alpha1.ServiceProxyNode
	if err := world.Client().Get(ctx, client.ObjectKey{Name: node.Name}, &spn); err != nil {
		Expect(client.IgnoreNotFound(err)).To(Succeed())
	}
	if c := meta.FindStatusCondition(spn.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// page is what the agent answers at a URL, and its status.
func page(ctx context.Context, url string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: node.Dial}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, text), err
}

func metrics(ctx context.Context) func() (string, error) {
	return func() (string, error) { return page(ctx, "http://127.0.0.1:10249/metrics") }
}

func healthz(ctx context.Context) func() (string, error) {
	return func() (string, error) { return page(ctx, "http://127.0.0.1:10256/healthz") }
}
