package conntrack

import (
	"net/netip"
	"slices"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// View is what decides whether a flow is stale.
type View struct {
	// Table is the forwarding table that the kernel follows by now.
	Table *forwarding.Table
	// ServiceCIDRs are the networks that cluster IPs are allocated from.
	ServiceCIDRs []netip.Prefix
	// NodePortAddresses are the networks whose addresses on the node have node ports; every address when nil.
	NodePortAddresses []netip.Prefix
}

// flow is what is read of a UDP flow.
type flow struct {
	// to is what the client sends to, from is what answers: the endpoint where the flow was translated, else to.
	to, from netip.AddrPort
	// zone is the conntrack zone; 0 unless somebody asked for another (iptables-extensions(8), CT --zone).
	zone uint16
}

// keys are the frontends to look at: those noted, and every other one there is when all is set.
type keys struct {
	noted map[forwarding.Key]struct{}
	all   bool
}

// judge decides which flows are stale.
type judge struct {
	View
	keys
	// node has the addresses of this node, true where they have node ports.
	node map[netip.Addr]bool
}

// stale says whether a flow is addressed to one of the keys and leads to no endpoint that may serve it. At an address
// that nobody holds no flow may stay; one of a Service that another proxy serves is that proxy's business.
func (j *judge) stale(f *flow) bool {
	address, nodePort, onNode := j.keysOf(f)
	noted := j.has(address) || onNode && j.has(nodePort)
	if !noted && !j.all {
		return false
	}
	if f.zone != 0 && f.to == f.from {
		return false // tracked a second time by somebody, such as Open vSwitch, who does not translate it there
	}
	switch holder := j.holder(address, nodePort, onNode); {
	case holder == nil:
		return noted || j.closed(nodePort, f) ||
			slices.ContainsFunc(j.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(address.Addr) })
	case holder.Frontends[0].Otherwise == forwarding.Ignore:
		return false
	default:
		return !serves(holder, f.from)
	}
}

// closed says whether a flow came in by a node port, at an address of this node that has none any more.
func (j *judge) closed(nodePort forwarding.Key, f *flow) bool {
	open, here := j.node[f.to.Addr()]
	p := j.Table.Holder(nodePort)
	return here && !open && f.to != f.from && p != nil && serves(p, f.from)
}

func serves(p *forwarding.ServicePort, endpoint netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(p.MayServe(), endpoint, netip.AddrPort.Compare)
	return found
}

// holder is who has the address and port, the node port, or else the whole address; nil when nobody does.
func (j *judge) holder(address, nodePort forwarding.Key, onNode bool) *forwarding.ServicePort {
	if p := j.Table.Holder(address); p != nil {
		return p
	}
	if p := j.Table.Holder(nodePort); p != nil && onNode {
		return p
	}
	return j.Table.Holder(forwarding.Key{Addr: address.Addr, IPv6: address.IPv6})
}

func (j *judge) keysOf(f *flow) (address, nodePort forwarding.Key, onNode bool) {
	addr := f.to.Addr()
	address = forwarding.Key{Addr: addr, Port: f.to.Port(), Protocol: forwarding.UDP, IPv6: addr.Is6()}
	nodePort = address
	nodePort.Addr = netip.Addr{}
	return address, nodePort, j.node[addr]
}

func (k *keys) has(key forwarding.Key) bool {
	_, noted := k.noted[key]
	return noted
}

// affected yields the keys at which a change can have made flows stale.
func affected(c forwarding.Change, yield func(forwarding.Key)) {
	before, after := keysOf(c.Old), keysOf(c.New)
	grown := c.Old != nil && c.New != nil && onlyGrown(c.Old.MayServe(), c.New.MayServe())
	for key := range before {
		if _, kept := after[key]; !kept || !grown {
			yield(key)
		}
	}
	for key := range after {
		if _, kept := before[key]; !kept {
			yield(key)
		}
	}
}

// keysOf are the keys of a Service port that UDP flows can be addressed to.
func keysOf(p *forwarding.ServicePort) map[forwarding.Key]struct{} {
	found := map[forwarding.Key]struct{}{}
	if p == nil || p.ID.Protocol != forwarding.UDP {
		return found
	}
	for i := range p.Frontends {
		found[p.Frontends[i].Key] = struct{}{}
	}
	return found
}

// onlyGrown says whether every flow there can be is as good as before. Where there was no endpoint, flows may have been
// left untranslated.
func onlyGrown(before, after []netip.AddrPort) bool {
	if len(before) == 0 {
		return false
	}
	for _, b := range before {
		if _, still := slices.BinarySearchFunc(after, b, netip.AddrPort.Compare); !still {
			return false
		}
	}
	return true
}
