package ipvs

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// kubeProxy is the real kube-proxy in ipvs mode on a node.
type kubeProxy struct {
	*cluster.Process
	cluster *cluster.Cluster
	node    *cluster.Node
}

// followTimeout is far beyond what kube-proxy takes for anything.
const followTimeout = 15 * time.Minute

// startKubeProxy starts it; nothing is written yet.
func startKubeProxy(b *testing.B, c *cluster.Cluster, node *cluster.Node) *kubeProxy {
	b.Helper()
	cache, err := binaries.Open()
	if err != nil {
		b.Fatal(err)
	}
	program, err := cache.Find(binaries.KubeProxy)
	if err != nil {
		b.Fatalf("looking for kube-proxy, which make bench builds: %v", err)
	}
	process, err := node.Start(cluster.ProcessSpec{Path: program, Args: []string{
		"--kubeconfig=" + c.NodeKubeconfig(), "--hostname-override=" + node.Name, "--proxy-mode=ipvs", "--cluster-cidr=" + podRange.String(),
		// It also does everything anew from time to time. That is left out: what is measured are changes.
		"--ipvs-sync-period=1h",
		// These are the machine's, not the namespace's, and would fail.
		"--conntrack-max-per-core=0", "--conntrack-min=0", "--oom-score-adj=0",
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(process.Kill)
	return &kubeProxy{Process: process, cluster: c, node: node}
}

// synced waits until it has written the first n Services, and returns how long it says that took.
func (k *kubeProxy) synced(b *testing.B, n int) time.Duration {
	b.Helper()
	var took time.Duration
	k.eventually(b, "it has synced", func(ctx context.Context) bool {
		var count int
		count, took = k.syncs(ctx)
		return count > 0
	})
	expect(b, k.node, n-1, 0)
	return took
}

// change replaces an endpoint, waits until kube-proxy has followed, and returns how long it says its sync took.
func (k *kubeProxy) change(b *testing.B, i, generation int) time.Duration {
	b.Helper()
	before, tookBefore := k.syncs(b.Context())
	if err := k.cluster.Client().Update(b.Context(), object(i, generation)); err != nil {
		b.Fatal(err)
	}
	k.eventually(b, "it follows a change", func(context.Context) bool {
		return slices.Equal(realServers(b, k.node, i), sorted(endpoints(i, generation)))
	})
	var count int
	var took time.Duration
	k.eventually(b, "it has finished a sync", func(ctx context.Context) bool {
		count, took = k.syncs(ctx)
		return count > before
	})
	return (took - tookBefore) / time.Duration(count-before)
}

// syncs is how many syncs of IPv4 it has done, and how long they took; none as long as it does not answer.
func (k *kubeProxy) syncs(ctx context.Context) (count int, took time.Duration) {
	metrics, err := churn.Scrape(ctx, k.node.Host, "http://127.0.0.1:10249/metrics")
	if err != nil {
		return 0, 0
	}
	for _, m := range metrics["kubeproxy_sync_proxy_rules_duration_seconds"].GetMetric() {
		for _, label := range m.GetLabel() {
			if label.GetName() == "ip_family" && label.GetValue() == "IPv4" {
				count += int(m.GetHistogram().GetSampleCount())
				took += time.Duration(m.GetHistogram().GetSampleSum() * float64(time.Second))
			}
		}
	}
	return count, took
}

func (k *kubeProxy) eventually(b *testing.B, what string, done func(context.Context) bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), followTimeout)
	defer cancel()
	ticker := time.NewTicker(time.Second) // There may be one CPU only, and asking takes time.
	defer ticker.Stop()
	for !done(ctx) {
		select {
		case <-ticker.C:
		case <-k.Done():
			b.Fatalf("kube-proxy has ended; its last lines:\n%s", k.Tail(20))
		case <-ctx.Done():
			b.Fatalf("waiting for kube-proxy until %s: %v; its last lines:\n%s", what, ctx.Err(), k.Tail(20))
		}
	}
}

// realServers are those of Service i in the kernel of a node, in order.
func realServers(b *testing.B, node *cluster.Node, i int) []netip.Addr {
	b.Helper()
	key := virtualserver.At(netip.AddrPortFrom(clusterIP(i), churn.Port), forwarding.TCP)
	var found []netip.Addr
	err := node.Do(func() error {
		kernel, err := virtualserver.Open()
		if err != nil {
			return err
		}
		defer func() { _ = kernel.Close() }()
		counts, err := kernel.Connections(b.Context(), map[virtualserver.Key]struct{}{key: {}})
		if err != nil {
			return err
		}
		for addr := range counts[key] {
			found = append(found, addr.Addr())
		}
		return nil
	})
	if err != nil {
		b.Fatal(fmt.Errorf("reading the real servers of a Service: %w", err))
	}
	return sorted(found)
}

func sorted(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// expect sees to it that Service i has the real servers that it is to have.
func expect(b *testing.B, node *cluster.Node, i, generation int) {
	b.Helper()
	if got, want := realServers(b, node, i), sorted(endpoints(i, generation)); !slices.Equal(got, want) {
		b.Fatalf("Service %s has real servers %v instead of %v", name(i), got, want)
	}
}
