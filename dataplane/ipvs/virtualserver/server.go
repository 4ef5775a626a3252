package virtualserver

import (
	"fmt"
	"net/netip"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Key is what a virtual server takes packets by: an address, port and protocol, or a firewall mark and a family. IPVS
// looks for a mark first (ip_vs_service_find in net/netfilter/ipvs/ip_vs_ctl.c).
type Key struct {
	// Addr, Port and Protocol are unset where there is a mark.
	Addr     netip.Addr
	Port     uint16
	Protocol forwarding.Protocol
	// Mark is the whole mark of a packet; 0 where there is an address.
	Mark uint32
	IPv6 bool
}

// At is the key of an address, port and protocol.
func At(addr netip.AddrPort, protocol forwarding.Protocol) Key {
	ip := addr.Addr().Unmap()
	return Key{Addr: ip, Port: addr.Port(), Protocol: protocol, IPv6: ip.Is6()}
}

// Marked is the key of packets of a family with a firewall mark.
func Marked(mark uint32, ipv6 bool) Key { return Key{Mark: mark, IPv6: ipv6} }

// String is like tcp 10.0.0.1:80, or IPv6 mark 0x4001.
func (k Key) String() string {
	switch {
	case k.Mark == 0:
		return fmt.Sprintf("%s %s", k.Protocol, netip.AddrPortFrom(k.Addr, k.Port))
	case k.IPv6:
		return fmt.Sprintf("IPv6 mark %#x", k.Mark)
	default:
		return fmt.Sprintf("IPv4 mark %#x", k.Mark)
	}
}

// Server is a virtual server as it is configured. Two that are equal do the same.
type Server struct {
	Key
	// Scheduler chooses the real server of a connection: rr, wrr and so on, as in ipvsadm(8).
	Scheduler string
	// Flags are of include/uapi/linux/ip_vs.h, without IP_VS_SVC_F_HASHED, which is the kernel's own.
	Flags uint32
	// PersistenceSeconds is how long a client keeps its real server after its last connection. Each address is a client of
	// its own. It says nothing without FlagPersistent, and then the kernel has it as it was given.
	PersistenceSeconds uint32
}

// The flags of a virtual server.
const (
	FlagPersistent uint32 = 0x01
	// FlagSourcePort has the schedulers sh and mh look at the source port too: IP_VS_SVC_F_SCHED_SH_PORT and
	// IP_VS_SVC_F_SCHED_MH_PORT, ipvsadm's sh-port and mh-port.
	FlagSourcePort uint32 = 0x10
	// FlagOurs is IP_VS_SVC_F_SCHED3, which is kept for schedulers and which none of them looks at.
	FlagOurs uint32 = 0x20

	flagHashed uint32 = 0x02
)

// New is a virtual server of ours. A client keeps its real server for so many seconds, or not at all if they are 0.
// Scheduler mh spreads the connections of one client too, as with kube-proxy.
func New(key Key, scheduler string, persistenceSeconds uint32) Server {
	s := Server{Key: key, Scheduler: scheduler, Flags: FlagOurs, PersistenceSeconds: persistenceSeconds}
	if persistenceSeconds > 0 {
		s.Flags |= FlagPersistent
	}
	if scheduler == "mh" {
		s.Flags |= FlagSourcePort
	}
	return s
}

// Ours says whether an agent made the virtual server.
func (s *Server) Ours() bool { return s.Flags&FlagOurs != 0 }

// RealServer is where connections go. Their destination address is translated (ipvsadm's masquerading).
type RealServer struct {
	Addr netip.AddrPort
	// Weight is its share of new connections. With 0 it gets none, and those it has go on.
	Weight uint32
}

// Connections are how many connections a real server has by IPVS's count: Active are established, Inactive are about to
// be or were closed. Flows of UDP are Inactive.
type Connections struct {
	Active, Inactive uint32
}

// State is a virtual server as the kernel has it.
type State struct {
	Server
	Real []RealState
}

// RealState is a real server as the kernel has it.
type RealState struct {
	RealServer
	Connections
}
