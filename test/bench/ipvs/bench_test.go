package ipvs

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// What is measured.
const (
	oneChange = "one endpoint replaced"
	firstSync = "first sync"
)

// BenchmarkBesideKubeProxy puts the engine and the real kube-proxy in ipvs mode, on two nodes, in front of the same
// Services, by how many there are.
func BenchmarkBesideKubeProxy(b *testing.B) {
	c, err := cluster.Join(b.Context(), cluster.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Stop(); err != nil {
			b.Error(err)
		}
	})
	created := 0
	for _, services := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			r := results{}
			oursAlone(b, c, services, r)
			if services <= mostForKubeProxy {
				create(b, c, created, services)
				created = services
				changes(b, c, services, r)
			}
			r.report(b)
		})
	}
}

// mostForKubeProxy is how many Services kube-proxy gets. In user-mode Linux it syncs as many in a minute and more.
const mostForKubeProxy = 10_000

// oursAlone counts and times what it takes the engine to get from nothing to all Services, and a change where kube-proxy
// is not measured.
func oursAlone(b *testing.B, c *cluster.Cluster, services int, r results) {
	b.Helper()
	withNode(b, c, func(node *cluster.Node) {
		e := newEngine(b, node)
		r.add(ours, firstSync, "ms", milliseconds(e.fill(b, services)))
		if services > mostForKubeProxy {
			r.add(ours, oneChange, "ms", milliseconds(e.change(b, services/2, 1)))
			r.count(ours, oneChange, traced(b, os.Getpid(), func() { e.change(b, services/2, 2) }))
			expect(b, node, services/2, 2)
		}
	})
	withNode(b, c, func(node *cluster.Node) {
		e := newEngine(b, node)
		r.count(ours, firstSync, traced(b, os.Getpid(), func() { e.fill(b, services) }))
	})
}

// changes replaces an endpoint again and again, on both sides in turn.
func changes(b *testing.B, c *cluster.Cluster, services int, r results) {
	b.Helper()
	withNode(b, c, func(mine *cluster.Node) {
		e := newEngine(b, mine)
		e.fill(b, services)
		withNode(b, c, func(node *cluster.Node) {
			k, took := filledKubeProxy(b, c, node, services)
			defer k.Kill()
			r.add(kubeProxys, firstSync, "ms", milliseconds(took))
			i, generation := services/2, 0
			for b.Loop() {
				generation++
				r.add(ours, oneChange, "ms", milliseconds(e.change(b, i, generation)))
				expect(b, mine, i, generation)
				r.add(kubeProxys, oneChange, "ms", milliseconds(k.change(b, i, generation)))
			}
			generation++
			r.count(ours, oneChange, traced(b, os.Getpid(), func() { e.change(b, i, generation) }))
			r.count(kubeProxys, oneChange, traced(b, k.Pid(), func() { k.change(b, i, generation) }))
			packets(b, c, mine, node, services, r)
			if err := c.Client().Update(b.Context(), object(i, 0)); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// filledKubeProxy is a kube-proxy that has synced, and how long that took. Its two sets that hold the cluster IPs were
// filled before: it would start a program for each entry, which takes hours where IPVS is in user-mode Linux.
func filledKubeProxy(b *testing.B, c *cluster.Cluster, node *cluster.Node, services int) (*kubeProxy, time.Duration) {
	b.Helper()
	fillSets(b, node, services)
	k := startKubeProxy(b, c, node)
	return k, k.synced(b, services)
}

// fillSets makes the sets KUBE-CLUSTER-IP and KUBE-IPVS-IPS as kube-proxy makes and fills them.
func fillSets(b *testing.B, node *cluster.Node, services int) {
	b.Helper()
	var sets strings.Builder
	sets.WriteString("create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536\n" +
		"create KUBE-IPVS-IPS hash:ip family inet hashsize 1024 maxelem 65536\n")
	for i := range services {
		fmt.Fprintf(&sets, "add KUBE-CLUSTER-IP %s,tcp:%d\nadd KUBE-IPVS-IPS %s\n", clusterIP(i), churn.Port, clusterIP(i))
	}
	if _, err := node.RunInput(b.Context(), sets.String(), "ipset", "restore"); err != nil {
		b.Fatal(err)
	}
}

// withNode runs f with a node that is new, and goes afterwards.
func withNode(b *testing.B, c *cluster.Cluster, f func(*cluster.Node)) {
	b.Helper()
	name := fmt.Sprintf("node-%d", time.Now().UnixNano())
	node, err := c.AddNode(b.Context(), name)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := c.RemoveNode(context.WithoutCancel(b.Context()), name); err != nil {
			b.Error(err)
		}
	}()
	f(node)
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
