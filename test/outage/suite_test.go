// Package outage takes the API server away from agents, or has it lie or be overloaded, while packets flow.
package outage

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

func TestOutage(t *testing.T) {
	specs.Run(t, "test/outage")
}

// The agent of node "doors" reaches the API server through one of two doors, the one of node "straight" directly.
const (
	doors, straight = "doors", "straight"
	webAddress      = "10.96.0.80:80"
	// more is how many Services there are besides web, so that to lose all of them is strange.
	more = 30
)

var (
	world       *cluster.Cluster
	setup       *install.Installation
	front, side *door
	clients     map[string]*cluster.Pod
	// backends are the pods behind Service web, one on each node.
	backends []netip.Addr
)

const config = `
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: default}
spec:
  nodeSelector: {}
  mode: iptables
  sync: {holdBack: {seconds: %d}}
  rollout: {maxUnavailable: 100%%, minReadySeconds: 0, nodeChangeDelaySeconds: 0}
`

func service(name, address string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  clusterIP: %s
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
`, name, address)
}

var _ = BeforeSuite(func(ctx SpecContext) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{doors, straight}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: "../..", Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	startThroughDoors(ctx)
	clients = map[string]*cluster.Pod{}
	for _, node := range []string{doors, straight} {
		running, err := world.RunPods(ctx, cluster.PodSpec{Name: "client-" + node, Node: node},
			cluster.PodSpec{Name: "web-" + node, Node: node, Labels: map[string]string{"app": "web"},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}})
		Expect(err).NotTo(HaveOccurred())
		clients[node] = running[0]
		backends = append(backends, running[1].IPv4)
	}
	manifests := service("web", "10.96.0.80")
	for i := range more {
		manifests += service(fmt.Sprintf("more-%d", i), fmt.Sprintf("10.96.1.%d", i+1))
	}
	apply(ctx, manifests)
	doubt(ctx, 60)
}, NodeTimeout(5*time.Minute))

// Every spec begins with nodes in which everything is right.
var _ = BeforeEach(func(ctx SpecContext) {
	for _, node := range []string{doors, straight} {
		Eventually(func() string { return condition(ctx, node, v1alpha1.ConditionReady).Reason }).Should(Equal(v1alpha1.ReasonSynced))
		Eventually(func() error { return asks(ctx, node, webAddress) }).Should(Succeed())
		Eventually(func() error { return asks(ctx, node, fmt.Sprintf("10.96.1.%d:80", more)) }).Should(Succeed())
		Eventually(func() bool { return metric(ctx, node, "serviceproxy_service_ports") == ports(ctx) }).Should(BeTrue())
	}
}, NodeTimeout(5*time.Minute))

var _ = JustAfterEach(func() {
	if CurrentSpecReport().Failed() {
		for _, node := range []string{doors, straight} {
			GinkgoWriter.Printf("--- %s:\n%s\n", node, setup.Agent(node).Tail(40))
		}
	}
})

// startThroughDoors starts the agent of a node again, which finds two doors to the API server from now on and no other way.
func startThroughDoors(ctx context.Context) {
	GinkgoHelper()
	node := world.Node(doors)
	Expect(setup.Agent(doors).Stop(ctx)).To(Succeed())
	var err error
	front, err = newDoor(ctx, node.Host, "127.0.0.1:16443", world.RESTConfig())
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { front.shut() })
	side, err = newDoor(ctx, node.Host, "127.0.0.1:16444", world.RESTConfig())
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { side.shut() })

	folder, err := node.Dir()
	Expect(err).NotTo(HaveOccurred())
	// What was found before would be a way around the doors.
	Expect(os.RemoveAll(filepath.Join(folder, "service-proxy"))).To(Succeed())
	path := filepath.Join(folder, "doors.kubeconfig")
	Expect(setup.StartAgentAs(ctx, node, func(spec *cluster.ProcessSpec) {
		for i, arg := range spec.Args {
			given, is := strings.CutPrefix(arg, "--kubeconfig=")
			if !is {
				continue
			}
			through, err := clientcmd.LoadFromFile(given)
			Expect(err).NotTo(HaveOccurred())
			for _, c := range through.Clusters {
				c.Server = "https://" + front.address
				c.CertificateAuthorityData = append(c.CertificateAuthorityData,
					pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.server.Certificate().Raw})...)
			}
			Expect(clientcmd.WriteToFile(*through, path)).To(Succeed())
			spec.Args[i] = "--kubeconfig=" + path
		}
		spec.Args = append(spec.Args, "--api-server="+front.address+","+side.address)
	})).To(Succeed())
}

func apply(ctx context.Context, manifests string) {
	GinkgoHelper()
	_, err := world.KubectlApply(ctx, manifests)
	Expect(err).NotTo(HaveOccurred())
}

// newService makes a Service until the end of the spec, with the endpoints of web. It writes them itself: after an outage,
// kube-controller-manager takes half a minute to do so.
func newService(ctx context.Context, name, address string) {
	GinkgoHelper()
	slice := churn.Slice("default", name, straight, time.Now(), backends...)
	for _, object := range []client.Object{churn.Service("default", name, netip.MustParseAddr(address)), slice} {
		// The first request after an outage may take a connection that is gone.
		Eventually(func() error { return client.IgnoreAlreadyExists(world.Client().Create(ctx, object)) }).Should(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(world.Client().Delete(ctx, object)).To(Succeed()) }, NodeTimeout(5*time.Minute))
	}
}

// doubt sets for how many seconds a sudden loss is doubted, and waits until every node has heard of it.
func doubt(ctx context.Context, seconds int) {
	GinkgoHelper()
	apply(ctx, fmt.Sprintf(config, seconds))
	for _, node := range []string{doors, straight} {
		Eventually(func() bool {
			spn := nodeOf(ctx, node)
			given := spn.Spec.Sync.HoldBack.Seconds
			return given != nil && int(*given) == seconds && spn.Status.AppliedRevision == spn.Spec.Revision
		}).Should(BeTrue())
	}
}

// ports is how many ports all Services have that have an address.
func ports(ctx context.Context) float64 {
	GinkgoHelper()
	var services corev1.ServiceList
	Expect(world.Client().List(ctx, &services)).To(Succeed())
	n := 0
	for i := range services.Items {
		if spec := &services.Items[i].Spec; spec.ClusterIP != corev1.ClusterIPNone {
			n += len(spec.Ports)
		}
	}
	return float64(n)
}

func asks(ctx context.Context, node, address string) error {
	_, err := clients[node].Ask(ctx, "tcp", address)
	return err
}

func nodeOf(ctx context.Context, node string) v1alpha1.ServiceProxyNode {
	GinkgoHelper()
	var spn v1alpha1.ServiceProxyNode
	if err := world.Client().Get(ctx, client.ObjectKey{Name: node}, &spn); err != nil {
		Expect(client.IgnoreNotFound(err)).To(Succeed())
	}
	return spn
}

func condition(ctx context.Context, node, kind string) metav1.Condition {
	GinkgoHelper()
	if c := meta.FindStatusCondition(nodeOf(ctx, node).Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// page is what the agent of a node answers at a URL.
func page(ctx context.Context, node, url string) (int, string) {
	GinkgoHelper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: world.Node(node).Dial}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	Expect(err).NotTo(HaveOccurred())
	response, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, string(text)
}

func healthz(ctx context.Context, node string) int {
	GinkgoHelper()
	code, _ := page(ctx, node, "http://127.0.0.1:10256/healthz")
	return code
}

// metric is the value of a metric of the agent of a node; -1 where it has none.
func metric(ctx context.Context, node, name string) float64 {
	GinkgoHelper()
	_, text := page(ctx, node, "http://127.0.0.1:10249/metrics")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return -1
	}
	value, err := strconv.ParseFloat(found[1], 64)
	Expect(err).NotTo(HaveOccurred())
	return value
}

// flow has packets flow through Service web from a pod of a node until the end of the spec, or until the function it returns
// is called, which fails the spec if any connection failed or broke.
func flow(ctx context.Context, node string) (isWhole func()) {
	GinkgoHelper()
	opened := traffic.Open(ctx, clients[node].Host, "tcp", webAddress, 20*time.Millisecond)
	held, err := traffic.Hold(ctx, clients[node].Host, webAddress, 4)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(held.Close)
	DeferCleanup(func() { opened.Stop() })
	return func() {
		GinkgoHelper()
		var tally traffic.Tally
		Eventually(func() int {
			tally = traffic.Sum(tally, opened.Take())
			return tally.Opened
		}).Should(BeNumerically(">", 10), "what happened took no time")
		tally = traffic.Sum(tally, opened.Stop())
		Expect(tally.Failed).To(BeZero(), tally.String())
		Expect(held.Broken()).To(Succeed())
	}
}

// took adds how long something took to the report.
func took(what string, since time.Time) {
	AddReportEntry(what, time.Since(since).Round(time.Millisecond).String())
}
