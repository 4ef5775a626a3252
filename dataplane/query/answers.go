// Package query is how people ask an agent what it does: by HTTP and JSON on a socket in the file system of the node, which
// only root opens. Nothing is open to the network.
//
// The JSON forms are stable: fields may be added, and none is renamed or removed.
package query

import (
	"net/netip"
	"time"

	"github.com/serviceproxy/service-proxy-operator/dataplane/trace"
)

// Node is what every answer says of the node that gives it.
type Node struct {
	Name string `json:"node"`
	// Mode is iptables or IPVS; empty while the agent has programmed nothing.
	Mode string `json:"mode,omitempty"`
	// Revision is the revision of the settings that the kernel runs.
	Revision string `json:"revision,omitempty"`
	// Pending says why the kernel does not hold the forwarding table yet, or not all of it; empty when it does.
	Pending string `json:"pending,omitempty"`
	// Since is when the kernel was last made to hold something else.
	Since *time.Time `json:"since,omitempty"`
}

// Service is what a node does for a Service.
type Service struct {
	Node
	Service string `json:"service"`
	// Known says that the forwarding table has the Service: it is not if it is headless or of type ExternalName, which ask
	// nothing of a proxy. Programmed says that the kernel holds what Ports say.
	Known      bool `json:"known"`
	Programmed bool `json:"programmed"`
	// Ports are those of the Service, each in each family, in order.
	Ports []Port `json:"ports,omitempty"`
	// Disputes are the addresses of the Service that another one holds, or that it holds and another one claims too.
	Disputes []Dispute `json:"disputes,omitempty"`
	// LeftOut says what this mode could not program.
	LeftOut []string `json:"leftOut,omitempty"`
}

// Port is one port of a Service in one family.
type Port struct {
	Name     string `json:"name,omitempty"`
	Protocol string `json:"protocol"`
	Family   string `json:"family"`
	// Cluster are the backends that this node uses where no policy keeps it to its own, and Local those on the node. A set
	// that no policy of the Service asks for is empty.
	Cluster         []netip.AddrPort `json:"cluster,omitempty"`
	Local           []netip.AddrPort `json:"local,omitempty"`
	AffinitySeconds uint32           `json:"affinitySeconds,omitempty"`
	Frontends       []Frontend       `json:"frontends,omitempty"`
}

// Frontend is one address at which a Service port can be reached.
type Frontend struct {
	// Kind is "cluster IP", "external IP", "load balancer IP" or "node port".
	Kind string `json:"kind"`
	// Address is address:port/protocol, or "node port NUMBER/protocol".
	Address string `json:"address"`
	// Pods, Node and Elsewhere are what becomes of connections of pods that the node can tell from others, of the node
	// itself, and of everybody else: "Cluster" or "Local", which are backends, or "Reject", "Drop" or "Ignore".
	Pods      string `json:"pods"`
	Node      string `json:"node"`
	Elsewhere string `json:"elsewhere"`
	// Sources are the networks that may connect; everybody when empty.
	Sources []netip.Prefix `json:"sources,omitempty"`
}

// Dispute is an address that several Services claim.
type Dispute struct {
	Address string   `json:"address"`
	Holder  string   `json:"holder"`
	Waiting []string `json:"waiting"`
}

// Trace is what becomes of a packet on a node.
type Trace struct {
	Node
	From     string `json:"from"`
	To       string `json:"to"`
	Protocol string `json:"protocol"`
	trace.Decision
	// Kernel is what the kernel holds for the frontend; nil when the packet is for none, or nothing is programmed.
	Kernel *Kernel `json:"kernel,omitempty"`
}

// Kernel is what the kernel of a node holds for one frontend, read back.
type Kernel struct {
	// Equal says that it is what the forwarding table asks for.
	Equal bool `json:"equal"`
	// Holds are rules, sets and virtual servers as iptables-save, ipset save and ipvsadm -S print them.
	Holds []string `json:"holds,omitempty"`
	// Differences say what is missing or different.
	Differences []string `json:"differences,omitempty"`
}
