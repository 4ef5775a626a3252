package churn_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// What the test is about.
const (
	services         = 2_000
	steady           = 20 // of these, that lead to pods and do not change
	endpoints        = 2
	changesPerSecond = 10
	duration         = time.Minute
	// connectionsPerSecond is how many each of the clients opens.
	connectionsPerSecond = 50
)

// Metrics of the agent.
const (
	metricProgramming = "kubeproxy_network_programming_duration_seconds"
	metricSync        = "kubeproxy_sync_proxy_rules_duration_seconds"
	metricLastSync    = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
	metricBytes       = "serviceproxy_bytes_written_total"
	metricPorts       = "serviceproxy_service_ports"
	metricEndpoints   = "serviceproxy_endpoints"
	metricRules       = "serviceproxy_rules"
	metricRepairs     = "serviceproxy_drift_repairs_total"
	metricFailures    = "serviceproxy_apply_failures_total"
)

func TestChurn(t *testing.T) {
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(200 * time.Millisecond)
	specs.Run(t, "churn")
}

// world is a cluster with the product on it: node "nft" and node "legacy" use the backends that they are named after.
type world struct {
	*cluster.Cluster
	pods []*cluster.Pod
	// addresses are the cluster IPs of the steady Services.
	addresses []netip.Addr
}

func name(i int) string { return fmt.Sprintf("svc-%04d", i) }

// elsewhere is an endpoint that nobody is at.
func elsewhere(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 250, byte(n >> 8), byte(n)})
}

// endpointsOf are the endpoints of a Service of a generation.
func (w *world) endpointsOf(i, generation int) []netip.Addr {
	if i >= steady {
		return []netip.Addr{elsewhere(2 * i), elsewhere(1<<14 + i + generation*services)}
	}
	return []netip.Addr{w.pods[i%len(w.pods)].IPv4, w.pods[(i+1)%len(w.pods)].IPv4}
}

func (w *world) slice(i, generation int) client.Object {
	return churn.Slice(metav1.NamespaceDefault, name(i), "nft", time.Now(), w.endpointsOf(i, generation)...)
}

// fill makes the Services.
func (w *world) fill(ctx context.Context) {
	var all, slices []client.Object
	for i := range services {
		all = append(all, churn.Service(metav1.NamespaceDefault, name(i), netip.Addr{}))
		slices = append(slices, w.slice(i, 0))
	}
	Expect(churn.Create(ctx, w.Client(), slices...)).To(Succeed())
	Expect(churn.Create(ctx, w.Client(), all...)).To(Succeed())
	for _, s := range all[:steady] {
		w.addresses = append(w.addresses, netip.MustParseAddr(s.(*corev1.Service).Spec.ClusterIP))
	}
}

func (w *world) metrics(ctx context.Context, node *cluster.Node) churn.Metrics {
	metrics, err := churn.Scrape(ctx, node.Host, "http://127.0.0.1:10249/metrics")
	Expect(err).NotTo(HaveOccurred())
	return metrics
}

// change changes the endpoints of other Services until the context ends, and returns how many it changed.
func (w *world) change(ctx context.Context) int {
	ticker := time.NewTicker(time.Second / changesPerSecond)
	defer ticker.Stop()
	for changes := 0; ; changes++ {
		select {
		case <-ctx.Done():
			return changes
		case <-ticker.C:
		}
		i := steady + rand.IntN(services-steady)
		if err := w.Client().Update(context.WithoutCancel(ctx), w.slice(i, 1+changes%6)); err != nil {
			AddReportEntry("a change failed", err.Error())
			return changes
		}
	}
}

// tally is what became of the connections of a client.
type tally struct {
	mu       sync.Mutex
	took     []time.Duration
	failures []error
}

func (t *tally) add(took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failures = append(t.failures, err)
		return
	}
	t.took = append(t.took, took)
}

func (t *tally) String() string {
	slices.Sort(t.took)
	if len(t.took) == 0 {
		return "none"
	}
	at := func(q float64) time.Duration {
		return t.took[int(q*float64(len(t.took)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%d, of which %d failed; p50 %v, p99 %v, slowest %v", len(t.took)+len(t.failures), len(t.failures), at(0.5), at(0.99), at(1))
}

// connect opens connections to steady Services until the context ends. Each is to be answered by a pod of its Service.
func (w *world) connect(ctx context.Context, from *cluster.Host, t *tally) {
	var group sync.WaitGroup
	defer group.Wait()
	ticker := time.NewTicker(time.Second / connectionsPerSecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		i := n % steady
		group.Go(func() {
			start := time.Now()
			reply, err := from.Ask(context.WithoutCancel(ctx), "tcp", netip.AddrPortFrom(w.addresses[i], churn.Port).String())
			if want := []string{w.pods[i%len(w.pods)].Name, w.pods[(i+1)%len(w.pods)].Name}; err == nil && !slices.Contains(want, reply.Pod) {
				err = fmt.Errorf("%s answered for Service %d, which has %v", reply.Pod, i, want)
			}
			t.add(time.Since(start), err)
		})
	}
}

// rulesInKernel counts our rules in both families.
func rulesInKernel(ctx context.Context, node *cluster.Node) (int, error) {
	count := 0
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"nat", "filter"} {
			rules, err := node.Run(ctx, fmt.Sprintf("%s-%s-save", program, node.Name), "-t", table)
			if err != nil {
				return 0, err
			}
			count += strings.Count("\n"+rules, "\n-A SPROXY-")
		}
	}
	return count, nil
}

var _ = Describe("2,000 Services, of which others change ten times a second", Ordered, func() {
	w := &world{}

	BeforeAll(func(ctx SpecContext) {
		var err error
		w.Cluster, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"nft", "legacy"}})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(w.Stop)
		for _, node := range w.Nodes() {
			// This is how the kubelet tells others which backend the node uses.
			_, err := node.Run(ctx, "iptables-"+node.Name, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
			Expect(err).NotTo(HaveOccurred())
			for i := range 2 {
				pod, err := w.RunPod(ctx, cluster.PodSpec{
					Name: fmt.Sprintf("%s-%d", node.Name, i), Node: node.Name,
					Ports: []corev1.ContainerPort{{ContainerPort: churn.EndpointPort}},
				})
				Expect(err).NotTo(HaveOccurred())
				w.pods = append(w.pods, pod)
			}
		}
		w.fill(ctx)
		_, err = install.Start(ctx, w.Cluster, install.Options{Root: "../.."})
		Expect(err).NotTo(HaveOccurred())
		_, err = w.KubectlApply(ctx, `
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: default}
spec: {nodeSelector: {}, mode: iptables}
`)
		Expect(err).NotTo(HaveOccurred())
		_, err = w.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "serviceproxyconfig", "default")
		Expect(err).NotTo(HaveOccurred())
		Expect(w.RouteVia(w.Node("nft"), netip.MustParsePrefix("10.96.0.0/16"))).To(Succeed())
	}, NodeTimeout(8*time.Minute))

	It("never fails a connection to one that does not change", func(ctx SpecContext) {
		clients := map[string]*cluster.Host{
			"pod on nft": w.pods[0].Host, "node legacy": w.Node("legacy").Host, "outside": w.Outside(),
		}
		tallies := map[string]*tally{}
		before := map[string]churn.Metrics{}
		for _, node := range w.Nodes() {
			before[node.Name] = w.metrics(ctx, node)
		}
		running, cancel := context.WithTimeout(ctx, duration)
		defer cancel()
		var group sync.WaitGroup
		for who, host := range clients {
			t := &tally{}
			tallies[who] = t
			group.Go(func() { w.connect(running, host, t) })
		}
		changes := w.change(running)
		group.Wait()

		AddReportEntry(fmt.Sprintf("changes: %d in %v", changes, duration))
		for who, t := range tallies {
			AddReportEntry(fmt.Sprintf("connections from %s: %v", who, t))
		}
		for _, node := range w.Nodes() {
			then, now := before[node.Name], w.metrics(ctx, node)
			syncsThen, spentThen := then.Histogram(metricSync)
			syncs, spent := now.Histogram(metricSync)
			AddReportEntry(fmt.Sprintf("node %s: %.0f syncs took %.1f s and %.0f bytes; sync p50 < %v s, p99 < %v s; programming p50 < %v s, p99 < %v s",
				node.Name, syncs-syncsThen, spent-spentThen, now.Value(metricBytes)-then.Value(metricBytes),
				now.Quantile(metricSync, 0.5, then), now.Quantile(metricSync, 0.99, then),
				now.Quantile(metricProgramming, 0.5, then), now.Quantile(metricProgramming, 0.99, then)))
		}
		for who, t := range tallies {
			Expect(errors.Join(t.failures...)).NotTo(HaveOccurred(), "connections from "+who)
			Expect(len(t.took)).To(BeNumerically(">", 0.9*connectionsPerSecond*duration.Seconds()), "connections from "+who)
		}
		Expect(changes).To(BeNumerically(">", 0.9*changesPerSecond*duration.Seconds()), "otherwise little has been shown")
	}, SpecTimeout(8*time.Minute))

	It("ends with the kernel as the forwarding table says", func(ctx SpecContext) {
		// From now on everything is compared every ten seconds.
		_, err := w.Kubectl(ctx, "patch", "serviceproxyconfig", "default", "--type=merge", `--patch={"spec":{"sync":{"fullIntervalSeconds":10}}}`)
		Expect(err).NotTo(HaveOccurred())
		start := time.Now()
		for _, node := range w.Nodes() {
			Eventually(func() float64 { return w.metrics(ctx, node).Value(metricLastSync) }).WithContext(ctx).
				Should(BeNumerically(">", start.Add(15*time.Second).Unix()), "a comparison on node "+node.Name)
			metrics := w.metrics(ctx, node)
			Expect(metrics.Value(metricRepairs)).To(BeZero(), "repairs")
			Expect(metrics.Value(metricFailures)).To(BeZero(), "failed writes")
			// The Service of the API server is the one more.
			Expect(metrics.Value(metricPorts)).To(BeNumerically("==", services+1))
			Expect(metrics.Value(metricEndpoints)).To(BeNumerically("==", services*endpoints+1))
			Expect(rulesInKernel(ctx, node)).To(BeNumerically("==", metrics.Value(metricRules)), "rules in the kernel of "+node.Name)
		}
	}, SpecTimeout(8*time.Minute))
})
