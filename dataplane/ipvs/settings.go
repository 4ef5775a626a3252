package ipvs

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Settings are what the kernel is to hold depends on besides the forwarding table. It is a value: Equal settings give
// equal rules and virtual servers.
type Settings struct {
	// MarkBit is the bit of the packet mark that asks for masquerading, 0 to 31.
	MarkBit int
	// Pods says how packets of pods are told from others.
	Pods xtables.Pods
	// ServiceCIDRs are the networks of cluster IPs. They are local to the node, and what no Service takes there is rejected.
	ServiceCIDRs []netip.Prefix
	// NodeAddresses are the primary addresses of the node: what a connection from the node to a Service has as its source.
	NodeAddresses []netip.Addr
	// NodePortAddresses are the networks whose addresses on the node have node ports; every address when nil.
	NodePortAddresses []netip.Prefix
	// KeepInvalid lets packets pass that conntrack finds invalid, as is right with nf_conntrack_tcp_be_liberal.
	KeepInvalid bool

	// Scheduler chooses real servers, by the name that ipvsadm(8) gives it.
	Scheduler string
	// ExcludeCIDRs are the networks in which no virtual server is made.
	ExcludeCIDRs []netip.Prefix
	// DrainTimeout is how long a real server that left keeps its connections.
	DrainTimeout time.Duration
	// TCPTimeout, TCPFinTimeout and UDPTimeout are how long IPVS remembers connections: idle, closed, and of UDP. The
	// kernel's value stays where one is zero.
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration
}

func (s *Settings) equal(t *Settings) bool { return reflect.DeepEqual(s, t) }

func (s *Settings) inServiceCIDR(addr netip.Addr) bool { return contains(s.ServiceCIDRs, addr) }

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
