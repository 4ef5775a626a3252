package ipvs

import "github.com/serviceproxy/service-proxy-operator/dataplane/ipset"

// prefix starts the name of every chain and set that this package makes, and of no other.
const prefix = "SPROXYVS-"

// The chains. None of them grows with the number of Services.
const (
	chainIn          = prefix + "IN"
	chainOut         = prefix + "OUT"
	chainPod         = prefix + "POD"
	chainHost        = prefix + "HOST"
	chainRemote      = prefix + "REMOTE"
	chainFilterIn    = prefix + "FILTERIN"
	chainFilterPod   = prefix + "FILTERPOD"
	chainClosed      = prefix + "CLOSED"
	chainRefuse      = prefix + "REFUSE"
	chainInput       = prefix + "INPUT"
	chainForward     = prefix + "FORWARD"
	chainUnmark      = prefix + "UNMARK"
	chainPostrouting = prefix + "POSTROUTING"
)

// kind is one of the sets of a family. Together they hold, for the rules, what the forwarding table says of every
// frontend.
type kind int

const (
	// setPod, setHost and setRemote have the frontends that take a client of that class to a backend, each with the mark
	// that its packets get.
	setPod kind = iota
	setHost
	setRemote
	// setLimited has the frontends that only some sources may use, and setSources those sources.
	setLimited
	setSources
	// setDropped and setRejected have the frontends that do not take every client to a backend: what they do then. In the
	// networks of cluster IPs, and at addresses in setRouted, what is in neither is rejected too.
	setDropped
	setRejected
	// setRouted has the addresses of Services that are local to the node for IPVS to see their packets, outside the
	// networks of cluster IPs.
	setRouted
	// setIgnored has the addresses in those networks that are left to somebody else.
	setIgnored
	kinds
)

// set is a set as the kernel knows it.
func (k kind) set(ipv6 bool) ipset.Set {
	family := "4-"
	if ipv6 {
		family = "6-"
	}
	name := [kinds]string{"POD", "HOST", "REMOTE", "LIMITED", "SOURCES", "DROPPED", "REJECTED", "ROUTED", "IGNORED"}[k]
	s := ipset.Set{Name: prefix + family + name, IPv6: ipv6, Kind: ipset.AddrPort}
	switch k {
	case setPod, setHost, setRemote:
		s.Kind = ipset.AddrPortMark
	case setSources:
		s.Kind = ipset.AddrPortNet
	case setRouted, setIgnored:
		s.Kind = ipset.Addr
	}
	return s
}
