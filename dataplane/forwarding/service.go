package forwarding

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

// Protocol is an IP protocol by its IANA number.
type Protocol uint8

// The protocols that a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the name that iptables, ipvsadm and /etc/protocols use.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "unknown"
}

// Service is what the data plane needs to know of a Service of type ClusterIP, NodePort or LoadBalancer.
type Service struct {
	Name types.NamespacedName
	// Created is the creation time in Unix seconds. Of two Services that claim one address, the older has it.
	Created int64

	ClusterIPs      []netip.Addr
	ExternalIPs     []netip.Addr
	LoadBalancerIPs []netip.Addr
	// SourceRanges are the sources that load balancer addresses accept; all when empty.
	SourceRanges []netip.Prefix
	Ports        []Port

	// InternalLocal and ExternalLocal are internalTrafficPolicy: Local and externalTrafficPolicy: Local.
	InternalLocal, ExternalLocal bool
	// AffinitySeconds is how long a client keeps its backend after its last connection; 0 is no affinity.
	AffinitySeconds uint32
	// HealthCheckNodePort is where load balancers ask whether this node has local endpoints; 0 for no such port.
	HealthCheckNodePort uint16
	// Foreign says that another proxy serves this Service (label service.kubernetes.io/service-proxy-name). It gets
	// no rules, and its addresses are left alone.
	Foreign bool
}

// Port is one port of a Service.
type Port struct {
	Name     string
	Protocol Protocol
	Port     uint16
	// NodePort is 0 when the port has none.
	NodePort uint16
}

// Slice is what the data plane needs to know of an EndpointSlice. All its endpoints are of one family.
type Slice struct {
	Ports     []SlicePort
	Endpoints []Endpoint
}

// SlicePort is a port on which every endpoint of a slice listens.
type SlicePort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// Endpoint is one endpoint of a slice.
type Endpoint struct {
	Addr                        netip.Addr
	Ready, Serving, Terminating bool
	// Local says that the endpoint is on this node.
	Local bool
	// NodeHints says that the endpoint carries hints for nodes, ThisNode that this node is one of them.
	NodeHints, ThisNode bool
	// ZoneHints are the zones that the endpoint is meant for.
	ZoneHints []string
}

// usable says whether an endpoint may get connections under any circumstances.
func (e *Endpoint) usable() bool { return e.Ready || e.fallback() }

// fallback says whether an endpoint may get connections only where no ready one is left (KEP-1669).
func (e *Endpoint) fallback() bool { return e.Serving && e.Terminating }

// Usable is how many endpoints of a slice may get connections under any circumstances.
func (s *Slice) Usable() int {
	n := 0
	for i := range s.Endpoints {
		if s.Endpoints[i].usable() {
			n++
		}
	}
	return n
}

// Node is what the decisions depend on besides Services and endpoints.
type Node struct {
	// Zone is the label topology.kubernetes.io/zone of the Node; empty when it has none.
	Zone string
	// Addresses are the primary addresses of the node, one of each family.
	Addresses []netip.Addr
	// ServiceCIDRs are the networks that cluster IPs are allocated from.
	ServiceCIDRs []netip.Prefix
	// DetectsPods says, for IPv4 and IPv6, whether packets of pods can be told from others.
	DetectsPods [2]bool
	// MasqueradeAll asks to masquerade every connection through a cluster IP.
	MasqueradeAll bool
}

func (n *Node) detectsPods(ipv6 bool) bool {
	if ipv6 {
		return n.DetectsPods[1]
	}
	return n.DetectsPods[0]
}
