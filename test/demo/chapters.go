package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/demo/scene"
	"github.com/serviceproxy/service-proxy-operator/test/install"
)

// nodePort is where Service shop listens on every node.
const nodePort = "30080"

// demo is the cluster that the story is about.
type demo struct {
	*story
	cluster        *cluster.Cluster
	pods           map[string]*cluster.Pod
	web, admin     scene.Address
	shop, resolver scene.Address
}

func (d *demo) clusterComesUp(ctx context.Context) error {
	d.chapter("A cluster",
		"etcd, kube-apiserver and kube-controller-manager are the real ones. Nodes, pods and a client outside are network\n"+
			"namespaces, so that every packet below goes through this machine's kernel.")
	d.expect(true, "the cluster is up", "nodes %s, IPv4 and IPv6, after %.1f s",
		strings.Join(scene.Nodes(), ", "), time.Since(d.Start).Seconds())

	start := time.Now()
	if _, err := install.Start(ctx, d.cluster, install.Options{Root: "."}); err != nil {
		return err
	}
	d.expect(true, "installed with kubectl apply -k config/default", "an operator and %d agents run, after %.1f s more",
		len(scene.Nodes()), time.Since(start).Seconds())
	return nil
}

func (d *demo) nobodyProgramsServices(ctx context.Context) error {
	d.chapter("Three Services, and nobody who programs them",
		"web and shop stand for the same four pods, web-1 and web-2 on node a, web-3 and web-4 on node b. shop also has port\n"+
			nodePort+" on every node. dns answers datagrams. A pod called client, on node a, will talk to them.")
	if err := d.setTheScene(ctx); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err := d.pods["client"].Ask(short, "tcp", d.web.IPv4)
	d.expect(err != nil, "nobody answers at "+d.web.IPv4+" yet", "%v", err)
	return nil
}

// setTheScene runs the pods, applies the Services, and notes where they listen.
func (d *demo) setTheScene(ctx context.Context) (err error) {
	if d.pods, err = scene.RunPods(ctx, d.cluster); err != nil {
		return err
	}
	out, err := d.cluster.KubectlApply(ctx, scene.Services)
	if err != nil {
		return err
	}
	d.say("$ kubectl apply -f services.yaml\n" + out)
	for service, n := range map[string]int{"web": 4, "shop": 4, "dns": 2} {
		if err := d.cluster.WaitForEndpoints(ctx, "default", service, n); err != nil {
			return err
		}
	}
	for _, a := range []struct {
		service, port string
		address       *scene.Address
	}{{"web", "http", &d.web}, {"web", "admin", &d.admin}, {"shop", "http", &d.shop}, {"dns", "dns", &d.resolver}} {
		if *a.address, err = scene.AddressOf(ctx, d.cluster, a.service, a.port); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) configIsApplied(ctx context.Context) error {
	d.chapter("A ServiceProxyConfig is applied",
		"The sample has two: default takes every node, edge takes the nodes labelled example.com/pool=edge and opens node\n"+
			"ports on the address of the node alone.")
	if err := scene.LabelPools(ctx, d.cluster); err != nil {
		return err
	}
	start := time.Now()
	if err := d.shell(ctx, d.cluster.Kubectl, "apply", "-k", "config/samples"); err != nil {
		return err
	}
	err := d.shell(ctx, d.cluster.Kubectl, "wait", "--for=condition=Ready", "--timeout=30s", "spc", "--all")
	d.expect(err == nil, "both are Ready", "every node is in sync %.1f s after the apply%s", time.Since(start).Seconds(), failure(err))
	return nil
}

// visit is a question to a Service: who asks, where, and whether the answer is to be no.
type visit struct {
	who     string
	from    *cluster.Host
	network string
	address string
	refused bool
}

func (d *demo) connectionsArrive(ctx context.Context) error {
	d.chapter("Connections arrive", "From a pod, from nodes, and from outside; to cluster IPs and to node ports; TCP and UDP; IPv4 and IPv6.")
	client, outside := d.pods["client"].Host, d.cluster.Outside()
	a, b, c := d.cluster.Node("a").Host, d.cluster.Node("b").Host, d.cluster.Node(scene.EdgeNode).Host
	visits := []visit{
		{"pod client asks web", client, "tcp", d.web.IPv4, false},
		{"pod client asks web", client, "tcp", d.web.IPv6, false},
		{"pod client asks web, its second port", client, "tcp", d.admin.IPv4, false},
		{"pod client asks dns", client, "udp", d.resolver.IPv4, false},
		{"pod client asks dns", client, "udp", d.resolver.IPv6, false},
		{"pod web-1 asks web, perhaps itself", d.pods["web-1"].Host, "tcp", d.web.IPv4, false},
		{"node b asks web", b, "tcp", d.web.IPv4, false},
		{"node c, which has no pod, asks web", c, "tcp", d.web.IPv6, false},
		{"outside asks node a", outside, "tcp", at(a.IPv4), false},
		{"outside asks node a", outside, "tcp", at(a.IPv6), false},
		{"outside asks node b", outside, "tcp", at(b.IPv4), false},
		{"outside asks node b", outside, "tcp", at(b.IPv6), false},
		{"outside asks node c, of the pool edge", outside, "tcp", at(c.IPv4), false},
		{"node a asks itself at 127.0.0.1", a, "tcp", "127.0.0.1:" + nodePort, false},
		{"node c does not listen there: edge says so", c, "tcp", "127.0.0.1:" + nodePort, true},
		{"nobody is at a port of web that it does not have", client, "tcp", strings.TrimSuffix(d.web.IPv4, ":80") + ":81", true},
	}
	for _, v := range visits {
		start := time.Now()
		reply, err := v.from.Ask(ctx, v.network, v.address)
		took := ms(time.Since(start))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		what := fmt.Sprintf("%s, %s %s", v.who, v.network, v.address)
		refused := errors.Is(err, syscall.ECONNREFUSED)
		d.expect((err == nil || refused) && refused == v.refused, what, "%s in %.1f ms", outcome(reply, err), took)
	}
	return nil
}

func outcome(reply cluster.Reply, err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case err != nil:
		return err.Error()
	}
	return fmt.Sprintf("%s answers, and sees %s,", reply.Pod, reply.Client.Addr())
}

func (d *demo) connectionsSpread(ctx context.Context) error {
	const n = 120
	d.chapter("They spread over the pods", fmt.Sprintf("%d connections from each place; a fair share is %d for each pod.", n, n/4))
	sources := []visit{
		{"pod client", d.pods["client"].Host, "tcp", d.web.IPv4, false},
		{"node b", d.cluster.Node("b").Host, "tcp", d.web.IPv6, false},
		{"outside, node c", d.cluster.Outside(), "tcp", at(d.cluster.Node("c").IPv4), false},
	}
	pods := []string{"web-1", "web-2", "web-3", "web-4"}
	rows := [][]string{append([]string{"from", "to"}, pods...)}
	least := n
	for _, source := range sources {
		count := map[string]int{}
		for range n {
			reply, err := source.from.Ask(ctx, source.network, source.address)
			if err != nil {
				return err
			}
			count[reply.Pod]++
		}
		row := []string{source.who, source.address}
		for _, pod := range pods {
			row = append(row, fmt.Sprint(count[pod]))
			least = min(least, count[pod])
		}
		rows = append(rows, row)
	}
	d.table(rows)
	d.expect(least >= n/4/3, "no pod is left out", "the smallest share is %d of %d", least, n)
	return nil
}

func (d *demo) whatEveryNodeRuns(ctx context.Context) error {
	d.chapter("What every node runs", "A config says how its pool is doing, a ServiceProxyNode what one node runs.")
	if err := d.shell(ctx, d.cluster.Kubectl, "get", "spc,spn"); err != nil {
		return err
	}
	out, err := d.cluster.Kubectl(ctx, "get", "spn", "-o",
		`jsonpath={range .items[*]}{.metadata.name}={.spec.configRef.name},{.status.mode},{.status.conditions[?(@.type=="Ready")].status} {end}`)
	if err != nil {
		return err
	}
	want := []string{"a=default,iptables,True", "b=default,iptables,True", "c=edge,iptables,True"}
	d.expect(slices.Equal(strings.Fields(out), want), "every node has the config of its pool and is Ready", "%s", strings.TrimSpace(out))
	return nil
}

// at is where Service shop listens on an address of a node.
func at(ip netip.Addr) string { return net.JoinHostPort(ip.String(), nodePort) }

func failure(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}
