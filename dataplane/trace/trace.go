package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Node is what the decision depends on besides the forwarding table.
type Node struct {
	// IPVS says that the node is in mode IPVS; it is in mode iptables otherwise.
	IPVS bool
	// Addresses are all addresses of the node.
	Addresses []netip.Addr
	// PodCIDRs tells packets of pods by their source; PodInterface, where it is set, by the interface they come in through.
	PodCIDRs     []netip.Prefix
	PodInterface string
	// ServiceCIDRs are the networks of cluster IPs.
	ServiceCIDRs []netip.Prefix
	// NodePortAddresses are the networks whose addresses on the node have node ports; every address when nil.
	NodePortAddresses []netip.Prefix
	// LocalhostNodePorts opens node ports at 127.0.0.0/8, in mode iptables.
	LocalhostNodePorts bool
	// ExcludeCIDRs are left to whoever else makes virtual servers there, in mode IPVS.
	ExcludeCIDRs []netip.Prefix
}

// Packet is the first packet of a connection, as it comes to the node or is sent by it.
type Packet struct {
	Source netip.Addr
	// FromPod says that a pod of the node sends it, for nodes that tell pods by the interface.
	FromPod     bool
	Destination netip.AddrPort
	Protocol    forwarding.Protocol
}

// Verdict is what becomes of a packet.
type Verdict string

// The verdicts.
const (
	// Forward is that it goes to one of the backends.
	Forward Verdict = "Forward"
	// Reject is that the client is told that nobody is there.
	Reject Verdict = "Reject"
	// Drop is that nobody answers.
	Drop Verdict = "Drop"
	// Untouched is that it goes where it was sent to, as far as Services are concerned.
	Untouched Verdict = "Untouched"
)

// Masquerade says whether the backend sees the address of the node instead of the client's.
type Masquerade string

// The ways to masquerade.
const (
	Never  Masquerade = "Never"
	Always Masquerade = "Always"
	// Hairpin is only where the client is the very backend that is chosen.
	Hairpin Masquerade = "Hairpin"
)

// Step is one thing that is decided on the way.
type Step struct {
	// Topic is what it is about, in a word or two, and Text what is decided and why.
	Topic string `json:"topic"`
	Text  string `json:"text"`
}

// Decision is what becomes of a packet, and why.
type Decision struct {
	Verdict Verdict `json:"verdict"`
	// Service and Port are those that the packet is for, and Frontend is where in them; empty when it is for none.
	Service  string `json:"service,omitempty"`
	Port     string `json:"port,omitempty"`
	Frontend string `json:"frontend,omitempty"`
	// Client is the class of the client, in words.
	Client string `json:"client"`
	// Backends are those that may be chosen, sorted, with the verdict Forward.
	Backends []netip.AddrPort `json:"backends,omitempty"`
	// Masquerade is set with the verdict Forward.
	Masquerade Masquerade `json:"masquerade,omitempty"`
	// AffinitySeconds is how long the client keeps its backend after its last connection; 0 is no affinity.
	AffinitySeconds uint32 `json:"affinitySeconds,omitempty"`
	Steps           []Step `json:"steps"`

	// Candidates are the backends that some client may reach where the packet is sent to, sorted: what a kernel has to hold.
	Candidates []netip.AddrPort `json:"-"`
}

func (d *Decision) sayf(topic, format string, args ...any) {
	d.Steps = append(d.Steps, Step{Topic: topic, Text: fmt.Sprintf(format, args...)})
}

// Decide says what becomes of a packet on a node with a forwarding table.
func Decide(table *forwarding.Table, node *Node, p Packet) Decision {
	p.Source, p.Destination = p.Source.Unmap(), netip.AddrPortFrom(p.Destination.Addr().Unmap(), p.Destination.Port())
	var d Decision
	class := node.classify(&d, p)
	port, frontend := node.find(&d, table, p)
	if frontend == nil {
		return d
	}
	d.Service, d.Port, d.Frontend = port.ID.Service.String(), port.ID.Port, frontend.Kind.String()
	d.sayf("frontend", "%s/%s is the %s of %s", p.Destination, p.Protocol, frontend.Kind, port.ID)
	if frontend.Otherwise == forwarding.Ignore {
		d.Verdict = Untouched
		d.sayf("verdict", "another proxy serves Service %s (label service.kubernetes.io/service-proxy-name); the packet is left to it", d.Service)
		return d
	}
	if node.IPVS && contains(node.ExcludeCIDRs, p.Destination.Addr()) {
		d.Verdict = Untouched
		d.sayf("verdict", "spec.ipvs.excludeCIDRs leaves %s to others", p.Destination.Addr())
		return d
	}
	for _, r := range frontend.Routes {
		d.Candidates = append(d.Candidates, port.Backends(r.Pool)...)
	}
	slices.SortFunc(d.Candidates, netip.AddrPort.Compare)
	d.Candidates = slices.Compact(d.Candidates)
	route := frontend.Routes[class]
	switch {
	case !allowed(&d, frontend, p.Source):
		d.refuse(frontend, "the client is not allowed to connect")
	case route.Pool == forwarding.Nowhere:
		d.refuse(frontend, without(port, frontend))
	default:
		d.forward(node, port, frontend, route, p)
	}
	return d
}

// classify finds out who the client is.
func (n *Node) classify(d *Decision, p Packet) forwarding.Class {
	own := slices.Contains(n.Addresses, p.Source) || p.Source.IsLoopback()
	switch {
	case own && n.IPVS: // it knows the node's own packets by where they come by, before it looks at their source
		d.Client = "node"
		d.sayf("client", "%s is the node itself", p.Source)
		return forwarding.Host
	case n.PodInterface == "" && contains(n.PodCIDRs, p.Source):
		d.Client = "pod"
		d.sayf("client", "%s is a pod: its address is in a network of pods that the node knows", p.Source)
		return forwarding.Pod
	case n.PodInterface != "" && p.FromPod && !own:
		d.Client = "pod"
		d.sayf("client", "%s is a pod: its packets come in through %s", p.Source, n.PodInterface)
		return forwarding.Pod
	case own:
		d.Client = "node"
		d.sayf("client", "%s is the node itself", p.Source)
		return forwarding.Host
	}
	d.Client = "elsewhere"
	if p.FromPod {
		d.sayf("client", "%s is a pod, but the node cannot tell it from others: no network of pods has its address", p.Source)
	} else {
		d.sayf("client", "%s is neither a pod that the node can tell nor the node itself", p.Source)
	}
	return forwarding.Remote
}

// find finds the frontend that a packet is for. Where there is none it decides.
func (n *Node) find(d *Decision, table *forwarding.Table, p Packet) (*forwarding.ServicePort, *forwarding.Frontend) {
	addr := p.Destination.Addr()
	exact := forwarding.Key{Addr: addr, Port: p.Destination.Port(), Protocol: p.Protocol, IPv6: addr.Is6()}
	whole := forwarding.Key{Addr: addr, IPv6: addr.Is6()}
	onNode := slices.Contains(n.Addresses, addr) || addr.IsLoopback()
	keys := []forwarding.Key{exact, whole}
	why := ""
	if onNode {
		if why = n.noNodePorts(addr); why == "" {
			keys = append(keys, forwarding.Key{Port: exact.Port, Protocol: p.Protocol, IPv6: addr.Is6()})
		}
	}
	for _, key := range keys {
		if port := table.Holder(key); port != nil {
			at := slices.IndexFunc(port.Frontends, func(f forwarding.Frontend) bool { return f.Key == key })
			return port, &port.Frontends[at]
		}
	}
	others := portsAt(table, addr)
	inRange := contains(n.ServiceCIDRs, addr)
	switch {
	case len(others) > 0:
		d.sayf("frontend", "%s has no port %d/%s; it has %s", addr, exact.Port, p.Protocol, strings.Join(others, ", "))
	case inRange:
		d.sayf("frontend", "%s is in the range of cluster IPs, and no Service has it", addr)
	case onNode && why != "":
		d.sayf("frontend", "%s is an address of the node without node ports: %s", addr, why)
	case onNode:
		d.sayf("frontend", "%s is an address of the node, and no Service has node port %d/%s", addr, exact.Port, p.Protocol)
	default:
		d.sayf("frontend", "no Service has %s", addr)
	}
	switch {
	case n.IPVS && len(others) > 0 && contains(n.ExcludeCIDRs, addr):
		d.Verdict = Untouched
		d.sayf("verdict", "not touched: spec.ipvs.excludeCIDRs leaves %s to others", addr)
	case inRange:
		d.Verdict = Reject
		d.sayf("verdict", "rejected: the client is told at once that nobody is there")
	case n.IPVS && len(others) > 0 && !onNode:
		d.Verdict = Reject
		d.sayf("verdict", "rejected: in mode IPVS an address of a Service belongs to the node with all its ports")
	default:
		d.Verdict = Untouched
		d.sayf("verdict", "not touched: it goes to whoever listens there")
	}
	return nil, nil
}

// noNodePorts says why an address of the node has no node ports; empty when it has.
func (n *Node) noNodePorts(addr netip.Addr) string {
	switch {
	case n.IPVS && !addresses.Usable(addr):
		return "mode IPVS has none at addresses of loopback and of a link only"
	case addr.IsLoopback() && (addr.Is6() || !n.LocalhostNodePorts):
		return "spec.nodePorts.localhost does not open loopback"
	case n.NodePortAddresses != nil && !contains(n.NodePortAddresses, addr):
		return "it is in none of spec.nodePorts.addresses"
	}
	return ""
}

// portsAt are the ports and protocols that Services have at an address, sorted.
func portsAt(table *forwarding.Table, addr netip.Addr) []string {
	var found []string
	for port := range table.All {
		for i := range port.Frontends {
			f := &port.Frontends[i]
			if f.Key.Addr == addr && f.Otherwise != forwarding.Ignore {
				found = append(found, fmt.Sprintf("%d/%s of %s", f.Key.Port, f.Key.Protocol, port.ID.Service))
			}
		}
	}
	slices.Sort(found)
	return found
}

func allowed(d *Decision, f *forwarding.Frontend, source netip.Addr) bool {
	if len(f.Sources) == 0 {
		return true
	}
	ok := contains(f.Sources, source)
	word := "in none of"
	if ok {
		word = "in"
	}
	networks := make([]string, 0, len(f.Sources))
	for _, s := range f.Sources {
		networks = append(networks, s.String())
	}
	d.sayf("source ranges", "%s is %s the networks that may connect: %s", source, word, strings.Join(networks, ", "))
	return ok
}

// without says why there is no backend for a client.
func without(port *forwarding.ServicePort, f *forwarding.Frontend) string {
	if f.Otherwise == forwarding.Drop {
		return fmt.Sprintf("%s has endpoints, but the traffic policy Local keeps clients like this one to those on this node, and there is none", port.ID)
	}
	return fmt.Sprintf("%s has no endpoint that is ready", port.ID)
}

// refuse decides for a packet that is not forwarded.
func (d *Decision) refuse(f *forwarding.Frontend, why string) {
	d.sayf("pool", "none: %s", why)
	if f.Otherwise == forwarding.Drop {
		d.Verdict = Drop
		d.sayf("verdict", "dropped: nobody answers")
		return
	}
	d.Verdict = Reject
	d.sayf("verdict", "rejected: the client is told at once that nobody is there")
}

func (d *Decision) forward(n *Node, port *forwarding.ServicePort, f *forwarding.Frontend, route forwarding.Route, p Packet) {
	d.Verdict, d.Backends = Forward, slices.Clone(port.Backends(route.Pool))
	if route.Pool == forwarding.Local {
		d.sayf("policy", "Local: only endpoints on this node may answer clients like this one")
	} else {
		d.sayf("policy", "Cluster: every endpoint that topology leaves to this node may answer")
	}
	list := make([]string, 0, len(d.Backends))
	for _, b := range d.Backends {
		list = append(list, b.String())
	}
	if len(list) == 1 {
		d.sayf("pool", "there is only %s", list[0])
	} else {
		d.sayf("pool", "one of %d, each as likely as the others: %s", len(list), strings.Join(list, ", "))
	}
	if port.AffinitySeconds > 0 {
		d.AffinitySeconds = port.AffinitySeconds
		d.sayf("affinity", "a client that was here in the last %d seconds goes to the backend it had", port.AffinitySeconds)
	}
	d.masquerade(n, f, route, p)
	d.sayf("verdict", "forwarded")
}

// masquerade says whether and why the source is replaced.
func (d *Decision) masquerade(n *Node, f *forwarding.Frontend, route forwarding.Route, p Packet) {
	hairpin := slices.ContainsFunc(d.Backends, func(b netip.AddrPort) bool { return b.Addr() == p.Source })
	d.Masquerade = Never
	switch {
	case route.Masquerade && f.Kind != forwarding.ClusterIP:
		d.Masquerade = Always
		d.sayf("masquerade", "yes: the backend sees the node, because its replies have to come back through it (externalTrafficPolicy: Local keeps the source)")
	case route.Masquerade && d.Client == "pod":
		d.Masquerade = Always
		d.sayf("masquerade", "yes: spec.masquerade.policy asks to masquerade all")
	case route.Masquerade:
		d.Masquerade = Always
		d.sayf("masquerade", "yes: the client is no pod of this node, so the backend's replies might not come back through it")
	case hairpin:
		d.Masquerade = Hairpin
		d.sayf("masquerade", "only where the client reaches itself, which would otherwise answer itself past the node")
	case len(n.PodCIDRs) == 0 && n.PodInterface == "" && f.Kind == forwarding.ClusterIP:
		d.sayf("masquerade", "no: the node cannot tell pods from others, so nobody is masqueraded at a cluster IP")
	default:
		d.sayf("masquerade", "no: the backend sees %s", p.Source)
	}
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}
