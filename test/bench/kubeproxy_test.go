package bench

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// kubeProxy is the real kube-proxy in iptables mode, on a node of a test cluster, with one backend of iptables.
type kubeProxy struct {
	cluster  *cluster.Cluster
	node     *cluster.Node
	backend  xtables.Backend
	recorder *recorder
	// services is how many Services of a plan the cluster has.
	services int
	// generation counts changes of endpoints.
	generation int
}

// startTimeout is far beyond what it takes for a cluster to start on a busy machine, or kube-proxy to follow.
const startTimeout = 2 * time.Minute

func startKubeProxy(b *testing.B, backend xtables.Backend) *kubeProxy {
	b.Helper()
	cache, err := binaries.Open()
	if err != nil {
		b.Fatal(err)
	}
	program, err := cache.Find(binaries.KubeProxy)
	if err != nil {
		b.Fatalf("looking for kube-proxy, which make bench builds: %v", err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), startTimeout)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{Nodes: []string{"a"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Stop(); err != nil {
			b.Error(err)
		}
	})
	programs := map[string]string{}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			programs[family+suffix] = fmt.Sprintf("%s-%s%s", family, backend, suffix)
		}
	}
	k := &kubeProxy{cluster: c, node: c.Node("a"), backend: backend, recorder: newRecorder(b, programs)}
	if _, err := k.node.Start(cluster.ProcessSpec{
		Path: program,
		Args: []string{
			"--kubeconfig=" + c.NodeKubeconfig(), "--hostname-override=a", "--proxy-mode=iptables", "--cluster-cidr=172.31.0.0/16",
			// These are the machine's, not the namespace's, and would fail.
			"--conntrack-max-per-core=0", "--conntrack-min=0", "--oom-score-adj=0",
		},
		Env: []string{"PATH=" + k.recorder.path()},
	}); err != nil {
		b.Fatal(err)
	}
	eventually(b, "kube-proxy has rules for the API server", func(ctx context.Context) bool {
		rules, err := k.save(ctx, "nat")
		return err == nil && len(withoutOwn(rules)) < len(rules)
	})
	return k
}

// save lists a table.
func (k *kubeProxy) save(ctx context.Context, table string) (string, error) {
	return k.node.Run(ctx, "iptables-"+string(k.backend)+"-save", "-t", table)
}

// eventually polls until done says so.
func eventually(b *testing.B, what string, done func(context.Context) bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), startTimeout)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for !done(ctx) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			b.Fatalf("waiting until %s: %v", what, ctx.Err())
		}
	}
}

// grow creates Services of a plan until there are n of them, and waits until kube-proxy has programmed all.
func (k *kubeProxy) grow(b *testing.B, p *plan, n int) {
	b.Helper()
	var services, slices []client.Object
	for i := k.services; i < n; i++ {
		services = append(services, churn.Service(metav1.NamespaceDefault, p.name(i), p.clusterIPs[i]))
		slices = append(slices, churn.Slice(metav1.NamespaceDefault, p.name(i), "a", time.Now(), p.addresses(i, 0)...))
	}
	k.services = n
	// A Service that has endpoints from the start needs no rule that rejects.
	for _, objects := range [][]client.Object{slices, services} {
		if err := churn.Create(b.Context(), k.cluster.Client(), objects...); err != nil {
			b.Fatal(err)
		}
	}
	k.waitForRules(b, n*p.endpoints)
}

// waitForRules waits until kube-proxy translates to a number of endpoints.
func (k *kubeProxy) waitForRules(b *testing.B, endpoints int) {
	b.Helper()
	eventually(b, fmt.Sprintf("kube-proxy has rules for %d endpoints", endpoints), func(ctx context.Context) bool {
		rules, err := k.save(ctx, "nat")
		return err == nil && strings.Count(withoutOwn(rules), " -j DNAT ") == endpoints
	})
}

// withoutOwn leaves out rules for the API server, which every cluster has a Service for.
func withoutOwn(rules string) string {
	var b strings.Builder
	for line := range strings.Lines(rules) {
		if !strings.Contains(line, "default/kubernetes:https") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// countRules counts rules in what iptables-save printed.
func countRules(rules string) int { return strings.Count("\n"+rules, "\n-A ") }

// change gives a Service of a plan other endpoints, and waits until kube-proxy follows. It returns how long kube-proxy
// says that its sync took, in seconds.
func (k *kubeProxy) change(b *testing.B, p *plan, i, generation int) float64 {
	b.Helper()
	countBefore, sumBefore := k.syncs(b.Context(), b)
	endpoints := p.addresses(i, generation)
	if err := k.cluster.Client().Update(b.Context(), churn.Slice(metav1.NamespaceDefault, p.name(i), "a", time.Now(), endpoints...)); err != nil {
		b.Fatal(err)
	}
	eventually(b, "kube-proxy follows a change", func(ctx context.Context) bool {
		rules, err := k.save(ctx, "nat")
		return err == nil && strings.Contains(rules, netip.AddrPortFrom(endpoints[0], endpointPort).String())
	})
	var count, sum float64
	eventually(b, "kube-proxy has finished a sync", func(ctx context.Context) bool {
		count, sum = k.syncs(ctx, b)
		return count > countBefore
	})
	return (sum - sumBefore) / (count - countBefore)
}

// syncs is how many syncs kube-proxy has done, and how many seconds they took.
func (k *kubeProxy) syncs(ctx context.Context, b *testing.B) (count, seconds float64) {
	b.Helper()
	metrics, err := churn.Scrape(ctx, k.node.Host, "http://127.0.0.1:10249/metrics")
	if err != nil {
		b.Fatal(err)
	}
	return metrics.Histogram("kubeproxy_sync_proxy_rules_duration_seconds")
}

// BenchmarkKubeProxy puts the real kube-proxy beside the engine, backend by backend, in this run and on this kernel:
// how many rules it writes, what it does for one change, and what its rules cost a packet.
func BenchmarkKubeProxy(b *testing.B) {
	backends(b, func(b *testing.B, backend xtables.Backend) {
		k := startKubeProxy(b, backend)
		if backend == xtables.NFT { // with the other it counts the same
			k.checkCounts(b)
		}
		p := newPlan(shape{services: 10_000, endpoints: 2}, serviceRange, kubeProxyEndpoints)
		for _, n := range sizes() {
			k.grow(b, p, n)
			b.Run(fmt.Sprintf("OneChange/%d", n), func(b *testing.B) { k.oneChange(b, p, n/2) })
		}
		b.Run("FirstPacket", func(b *testing.B) { k.firstPacket(b) })
	})
}

// oneChange measures what kube-proxy does to follow one endpoint of one Service.
func (k *kubeProxy) oneChange(b *testing.B, p *plan, i int) {
	k.recorder.start(b)
	k.change(b, p, i, k.nextGeneration())
	total := k.recorder.stop(b)
	seconds := 0.0
	for b.Loop() {
		seconds += k.change(b, p, i, k.nextGeneration())
	}
	report(b, "ms/op", seconds*1e3/float64(b.N))
	report(b, "bytes/op", float64(total.bytes))
	report(b, "processes/op", float64(total.processes))
	report(b, "syscalls/op", float64(total.syscalls))
	b.ReportMetric(0, "ns/op") // includes waiting for kube-proxy to begin
}

func (k *kubeProxy) nextGeneration() int {
	k.generation++
	return k.generation
}

// firstPacket puts a router with kube-proxy's rules into the rig.
func (k *kubeProxy) firstPacket(b *testing.B) {
	r := newRig(b)
	targets := ourTargets(b, r, k.backend)
	router, endpointCIDR := r.router(b, serviceRange)
	if endpointCIDR != kubeProxyEndpoints {
		b.Fatalf("kube-proxy's endpoints are behind another router: %s", endpointCIDR)
	}
	var services []netip.Addr
	for _, table := range []string{"nat", "filter"} {
		rules, err := k.save(b.Context(), table)
		if err != nil {
			b.Fatal(err)
		}
		// The counter of a rule is a thing of the namespace that kube-proxy runs in.
		router.restore(b, string(k.backend), counter.ReplaceAllString(rules, ""))
		services = append(services, listed(b, rules)...)
	}
	b.Logf("kube-proxy lists %d Services", len(services))
	targets = append(targets,
		&target{name: "kube-proxy:no-Service", next: at(nth(endpointCIDR, 1), endpointPort)},
		&target{name: "kube-proxy:first", next: at(services[0], servicePort)},
		&target{name: "kube-proxy:median", next: at(services[len(services)/2], servicePort)},
		&target{name: "kube-proxy:last", next: at(services[len(services)-1], servicePort)},
		&target{name: "kube-proxy:random", next: anyOf(services)},
	)
	medians := r.measure(b, targets)
	report(b, "no-Service/kube-proxy", medians["no-Service-10000"]/medians["kube-proxy:no-Service"])
	report(b, "median/kube-proxy", medians["median-of-10000"]/medians["kube-proxy:median"])
	report(b, "last/kube-proxy", medians["last-of-10000"]/medians["kube-proxy:last"])
	report(b, "random/kube-proxy", medians["random-of-10000"]/medians["kube-proxy:random"])
}

var counter = regexp.MustCompile(` -m nfacct --nfacct-name +\S+`)

// listed are the cluster IPs that kube-proxy's rules lead to endpoints, in the order in which a packet is compared.
func listed(b *testing.B, rules string) []netip.Addr {
	b.Helper()
	var found []netip.Addr
	for line := range strings.Lines(withoutOwn(rules)) {
		destination, isService := strings.CutPrefix(line, "-A KUBE-SERVICES -d ")
		if !isService || !strings.Contains(line, " -j KUBE-SVC-") {
			continue
		}
		prefix, _, _ := strings.Cut(destination, " ")
		p, err := netip.ParsePrefix(prefix)
		if err != nil {
			b.Fatalf("reading kube-proxy's rule %q: %v", line, err)
		}
		found = append(found, p.Addr())
	}
	return found
}

// kubeProxyEndpoints are the endpoints behind the router with kube-proxy's rules, the fourth of the rig.
var kubeProxyEndpoints = netip.MustParsePrefix("10.204.0.0/16")
