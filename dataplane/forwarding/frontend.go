package forwarding

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// PortID names one port of a Service in one family.
type PortID struct {
	Service  types.NamespacedName
	Port     string
	Protocol Protocol
	IPv6     bool
}

// String is namespace/name, with the name of the port where it has one.
func (id PortID) String() string {
	if id.Port == "" {
		return id.Service.String()
	}
	return id.Service.String() + ":" + id.Port
}

// Kind says where a frontend comes from.
type Kind uint8

// The kinds of frontends.
const (
	ClusterIP Kind = iota
	ExternalIP
	LoadBalancerIP
	NodePort
)

// String is the kind in the words of the Kubernetes documentation.
func (k Kind) String() string {
	switch k {
	case ClusterIP:
		return "cluster IP"
	case ExternalIP:
		return "external IP"
	case LoadBalancerIP:
		return "load balancer IP"
	}
	return "node port"
}

// Key is what a packet is addressed to. A node port has the zero Addr: any address of the node that has node ports.
// A key without port and protocol stands for the whole address.
type Key struct {
	Addr     netip.Addr
	Port     uint16
	Protocol Protocol
	// IPv6 tells the two families of a node port apart; it follows from Addr otherwise.
	IPv6 bool
}

// String is address:port/protocol.
func (k Key) String() string {
	if !k.Addr.IsValid() {
		return fmt.Sprintf("node port %d/%s", k.Port, k.Protocol)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(k.Addr, k.Port), k.Protocol)
}

// Class is who opened a connection.
type Class uint8

// The classes of clients, in the order in which a packet is tried for them: the first that fits decides.
const (
	// Pod is a pod, as far as this node can tell pods by their packets.
	Pod Class = iota
	// Host is the node itself.
	Host
	// Remote is everyone else.
	Remote
	classes
)

// Pool is one of the two sets of backends of a Service port.
type Pool uint8

// The pools.
const (
	// Nowhere is no backend at all: the verdict of the frontend decides.
	Nowhere Pool = iota
	// Cluster is every backend that this node should use.
	Cluster
	// Local is the backends on this node.
	Local
)

// Route is where the connections of one class of clients go.
type Route struct {
	Pool Pool
	// Masquerade asks that the node's address becomes the source, so that replies come back through this node.
	Masquerade bool
}

// Verdict is what becomes of a packet that no route takes.
type Verdict uint8

// The verdicts.
const (
	// Reject tells the client at once that nobody is there.
	Reject Verdict = iota
	// Drop says nothing: the Service does work, but not through this node.
	Drop
	// Ignore leaves the packet to whoever else serves the address.
	Ignore
)

// Frontend is one address, port and protocol at which a Service port can be reached, and what becomes of packets.
type Frontend struct {
	Key  Key
	Kind Kind
	// Routes has the route of each Class.
	Routes [classes]Route
	// Otherwise is for packets of a class without a route, and from sources that are not allowed.
	Otherwise Verdict
	// Sources are the networks that may connect; everybody when empty.
	Sources []netip.Prefix
}

// Uniform says whether every class of clients is treated alike.
func (f *Frontend) Uniform() bool {
	return f.Routes[Pod] == f.Routes[Host] && f.Routes[Host] == f.Routes[Remote]
}

// Open says whether every client has a route, so that the verdict is never needed.
func (f *Frontend) Open() bool {
	for _, r := range f.Routes {
		if r.Pool == Nowhere {
			return false
		}
	}
	return len(f.Sources) == 0
}

func (f *Frontend) equal(g *Frontend) bool {
	return f.Key == g.Key && f.Kind == g.Kind && f.Routes == g.Routes && f.Otherwise == g.Otherwise &&
		slices.Equal(f.Sources, g.Sources)
}

// ServicePort is one port of a Service in one family: its frontends, and the backends behind them. It is never changed
// once made.
type ServicePort struct {
	ID PortID
	// Cluster and Local are the backends of the two pools, sorted, each once.
	Cluster, Local []netip.AddrPort
	// Usable is every endpoint that may keep the flows it has, sorted: also those that topology or policy gives no new
	// ones. Only for UDP, and nil where it is the same as Cluster; see MayServe.
	Usable []netip.AddrPort
	// AffinitySeconds is how long a client keeps its backend after its last connection; 0 is no affinity.
	AffinitySeconds uint32
	Frontends       []Frontend
}

// Backends are the backends of a pool.
func (p *ServicePort) Backends(pool Pool) []netip.AddrPort {
	switch pool {
	case Cluster:
		return p.Cluster
	case Local:
		return p.Local
	}
	return nil
}

// MayServe is every endpoint that may keep the UDP flows it has, sorted.
func (p *ServicePort) MayServe() []netip.AddrPort {
	if p.Usable != nil {
		return p.Usable
	}
	return p.Cluster
}

// Endpoints counts the distinct backends in both pools.
func (p *ServicePort) Endpoints() int {
	n := len(p.Cluster)
	for _, b := range p.Local {
		if _, shared := slices.BinarySearchFunc(p.Cluster, b, netip.AddrPort.Compare); !shared {
			n++
		}
	}
	return n
}

func (p *ServicePort) equal(q *ServicePort) bool {
	return p.ID == q.ID && p.AffinitySeconds == q.AffinitySeconds && slices.Equal(p.Cluster, q.Cluster) &&
		slices.Equal(p.Local, q.Local) && slices.Equal(p.Usable, q.Usable) &&
		slices.EqualFunc(p.Frontends, q.Frontends, func(a, b Frontend) bool { return a.equal(&b) })
}
