package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// The ports of every Service here and of its endpoints.
const (
	servicePort  = 80
	endpointPort = 8080
)

// shape says what Services look like.
type shape struct {
	services, endpoints int
	// exposed gives each Service a load balancer IP for some sources, an external IP and a node port.
	exposed bool
}

// plan is a set of Services with their addresses. The same number always gives the same ones.
type plan struct {
	shape
	// serviceCIDR and endpointCIDR are the /16 that addresses come from.
	serviceCIDR, endpointCIDR netip.Prefix
	// clusterIPs are spread over serviceCIDR at random, as those are that a cluster allocates.
	clusterIPs []netip.Addr
}

func newPlan(s shape, serviceCIDR, endpointCIDR netip.Prefix) *plan {
	p := &plan{shape: s, serviceCIDR: serviceCIDR, endpointCIDR: endpointCIDR}
	random := rand.New(rand.NewPCG(1, 2))
	// The first and the last 256 addresses are for other purposes.
	for _, n := range random.Perm(1<<16 - 512)[:s.services] {
		p.clusterIPs = append(p.clusterIPs, nth(serviceCIDR, n+256))
	}
	return p
}

// nth is an address of a /16.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	a[2], a[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(a)
}

// inOrder are the cluster IPs from the lowest to the highest: in every chain that a packet walks, the rule for a higher
// address stands after that for a lower one.
func (p *plan) inOrder() []netip.Addr {
	return slices.SortedFunc(slices.Values(p.clusterIPs), netip.Addr.Compare)
}

// name is the name of Service i.
func (p *plan) name(i int) string { return fmt.Sprintf("svc-%05d", i) }

// addresses are the endpoints of Service i. Every generation has another first one.
func (p *plan) addresses(i, generation int) []netip.Addr {
	addrs := make([]netip.Addr, p.endpoints)
	for j := range addrs {
		addrs[j] = nth(p.endpointCIDR, 256+i*p.endpoints+j)
	}
	if generation > 0 {
		addrs[0] = nth(p.endpointCIDR, 1<<15+generation%(1<<15))
	}
	return addrs
}

// service is Service i of a generation.
func (p *plan) service(i, generation int) (*forwarding.Service, []*forwarding.Slice) {
	svc := &forwarding.Service{
		Name:       types.NamespacedName{Namespace: "default", Name: p.name(i)},
		ClusterIPs: []netip.Addr{p.clusterIPs[i]},
		Ports:      []forwarding.Port{{Name: "http", Protocol: forwarding.TCP, Port: servicePort}},
	}
	if p.exposed {
		svc.ExternalIPs = []netip.Addr{p.externalIP(i)}
		svc.LoadBalancerIPs = []netip.Addr{p.loadBalancerIP(i)}
		svc.SourceRanges = []netip.Prefix{sources}
		svc.Ports[0].NodePort = p.nodePort(i)
	}
	slice := &forwarding.Slice{Ports: []forwarding.SlicePort{{Name: "http", Protocol: forwarding.TCP, Port: endpointPort}}}
	for _, addr := range p.addresses(i, generation) {
		slice.Endpoints = append(slice.Endpoints, forwarding.Endpoint{Addr: addr, Ready: true, Serving: true})
	}
	return svc, []*forwarding.Slice{slice}
}

// sources are those that load balancer IPs accept.
var sources = netip.MustParsePrefix("192.0.2.0/28")

func (p *plan) externalIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
}
func (p *plan) loadBalancerIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)})
}
func (p *plan) nodePort(i int) uint16 { return uint16(30000 + i) }

// node is a host with an engine, as the agent drives it.
type node struct {
	*host
	*plan
	settings iptables.Settings
	view     forwarding.Node
	table    *forwarding.Table
	tools    *xtables.Tools
	engine   *iptables.Engine
}

// newNode makes a node on a host that uses a backend; nothing is written yet.
func newNode(tb testing.TB, h *host, backend xtables.Backend, p *plan) *node {
	tb.Helper()
	n := &node{
		host: h, plan: p, table: forwarding.NewTable(),
		settings: iptables.Settings{
			MarkBit:      14,
			ServiceCIDRs: []netip.Prefix{p.serviceCIDR},
			PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("172.31.0.0/16")},
		},
		view: forwarding.Node{ServiceCIDRs: []netip.Prefix{p.serviceCIDR}, DetectsPods: [2]bool{true, false}},
	}
	h.do(tb, func() error {
		// This is how the kubelet tells others which backend the node uses.
		out, err := exec.CommandContext(tb.Context(), "iptables-"+string(backend), "-t", "mangle", "-N", "KUBE-IPTABLES-HINT").CombinedOutput()
		if err != nil {
			return fmt.Errorf("making the kubelet's hint: %w: %s", err, out)
		}
		n.tools, err = xtables.Probe(tb.Context())
		return err
	})
	if n.tools.Backend != backend {
		tb.Fatalf("the engine found backend %s instead of %s", n.tools.Backend, backend)
	}
	n.engine = iptables.New(n.tools, n.settings)
	return n
}

// set computes Service i and returns what changes in the forwarding table.
func (n *node) set(i, generation int) []forwarding.Change {
	svc, endpointSlices := n.service(i, generation)
	ports, _ := forwarding.Compute(svc, endpointSlices, &n.view)
	return n.table.Update(svc.Name, svc.Created, ports)
}

// everything computes all Services, as at the start of an agent.
func (n *node) everything() []forwarding.Change {
	var changes []forwarding.Change
	for i := range n.services {
		changes = append(changes, n.set(i, 0)...)
	}
	return changes
}

// apply has the engine write changes.
func (n *node) apply(tb testing.TB, e *iptables.Engine, changes []forwarding.Change) (written xtables.Written) {
	tb.Helper()
	n.do(tb, func() (err error) {
		written, err = e.Apply(context.WithoutCancel(tb.Context()), changes)
		return err
	})
	return written
}

// filled is a node with the rules of all its Services in the kernel.
func filled(tb testing.TB, h *host, backend xtables.Backend, p *plan) *node {
	tb.Helper()
	n := newNode(tb, h, backend, p)
	n.apply(tb, n.engine, n.everything())
	return n
}

// restore gives rules to iptables-restore, which replaces what the tables in it held.
func (h *host) restore(tb testing.TB, backend, rules string) {
	tb.Helper()
	h.do(tb, func() error {
		cmd := exec.CommandContext(tb.Context(), "iptables-"+backend+"-restore")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("running iptables-restore: %w: %s", err, out)
		}
		return nil
	})
}
