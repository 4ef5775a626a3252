package virtualserver

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// The numbers of include/uapi/linux/ip_vs.h.
const (
	familyName    = "IPVS"
	familyVersion = 1

	commandNewService = 1
	commandSetService = 2
	commandDelService = 3
	commandGetService = 4
	commandNewDest    = 5
	commandSetDest    = 6
	commandDelDest    = 7
	commandGetDest    = 8
	commandSetConfig  = 12

	attrService       = 1
	attrDest          = 2
	attrTimeoutTCP    = 4
	attrTimeoutTCPFin = 5
	attrTimeoutUDP    = 6

	attrServiceFamily    = 1
	attrServiceProtocol  = 2
	attrServiceAddr      = 3
	attrServicePort      = 4
	attrServiceMark      = 5
	attrServiceScheduler = 6
	attrServiceFlags     = 7
	attrServiceTimeout   = 8
	attrServiceNetmask   = 9

	attrDestAddr           = 1
	attrDestPort           = 2
	attrDestMethod         = 3
	attrDestWeight         = 4
	attrDestUpperThreshold = 5
	attrDestLowerThreshold = 6
	attrDestActive         = 7
	attrDestInactive       = 8
	attrDestFamily         = 11

	// methodMasquerading is IP_VS_CONN_F_MASQ.
	methodMasquerading = 0
)

// command is what IPVS calls an action.
func (a Action) command() uint8 {
	return [...]uint8{
		AddServer: commandNewService, SetServer: commandSetService, DeleteServer: commandDelService,
		AddReal: commandNewDest, SetReal: commandSetDest, DeleteReal: commandDelDest,
	}[a]
}

// encode is the body of the request for an operation.
func (o *Operation) encode() []byte {
	body := netlink.Generic(o.Action.command(), familyVersion)
	body.Nested(attrService, func(a *netlink.Attributes) {
		o.Server.Key.encode(a)
		if o.Action == AddServer || o.Action == SetServer {
			o.Server.encode(a)
		}
	})
	if o.Action.onReal() {
		body.Nested(attrDest, func(a *netlink.Attributes) { o.Real.encode(a, o.Action) })
	}
	return body
}

func (k *Key) encode(a *netlink.Attributes) {
	a.Uint16(attrServiceFamily, addressFamily(k.IPv6))
	if k.Mark != 0 {
		a.Uint32(attrServiceMark, k.Mark)
		return
	}
	a.Uint16(attrServiceProtocol, uint16(k.Protocol))
	a.Bytes(attrServiceAddr, k.Addr.AsSlice())
	a.Bytes(attrServicePort, binary.BigEndian.AppendUint16(nil, k.Port))
}

func (s *Server) encode(a *netlink.Attributes) {
	const everyFlag = ^uint32(0)
	// The bits of an address that make a client: a mask for IPv4, their number for IPv6 (ip_vs_genl_parse_service).
	netmask := ^uint32(0)
	if s.IPv6 {
		netmask = 128
	}
	a.String(attrServiceScheduler, s.Scheduler)
	flags := binary.NativeEndian.AppendUint32(nil, s.Flags)
	a.Bytes(attrServiceFlags, binary.NativeEndian.AppendUint32(flags, everyFlag))
	a.Uint32(attrServiceTimeout, s.PersistenceSeconds)
	a.Uint32(attrServiceNetmask, netmask)
}

func (r *RealServer) encode(a *netlink.Attributes, action Action) {
	a.Uint16(attrDestFamily, addressFamily(r.Addr.Addr().Is6()))
	a.Bytes(attrDestAddr, r.Addr.Addr().AsSlice())
	a.Bytes(attrDestPort, binary.BigEndian.AppendUint16(nil, r.Addr.Port()))
	if action == DeleteReal {
		return
	}
	a.Uint32(attrDestMethod, methodMasquerading)
	a.Uint32(attrDestWeight, r.Weight)
	a.Uint32(attrDestUpperThreshold, 0)
	a.Uint32(attrDestLowerThreshold, 0)
}

func addressFamily(ipv6 bool) uint16 {
	if ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// decode visits the attributes that are nested in those of some kind.
func decode(body []byte, kind uint16, visit func(kind uint16, value []byte)) {
	if len(body) < netlink.SizeofGeneric {
		return
	}
	netlink.Each(body[netlink.SizeofGeneric:], func(k uint16, value []byte) {
		if k == kind {
			netlink.Each(value, visit)
		}
	})
}

// decodeServer reads a virtual server. It returns false for what is none.
func decodeServer(body []byte) (s Server, ok bool) {
	var addr []byte
	decode(body, attrService, func(kind uint16, value []byte) {
		switch kind {
		case attrServiceFamily:
			s.IPv6 = number(value) == unix.AF_INET6
		case attrServiceProtocol:
			s.Protocol = forwarding.Protocol(number(value))
		case attrServiceAddr:
			addr = value
		case attrServicePort:
			s.Port = port(value)
		case attrServiceMark:
			s.Mark = number(value)
		case attrServiceScheduler:
			s.Scheduler = netlink.Text(value)
		case attrServiceFlags:
			s.Flags = number(value) &^ flagHashed
		case attrServiceTimeout:
			s.PersistenceSeconds = number(value)
		}
	})
	if s.Mark != 0 {
		return s, true
	}
	s.Addr, ok = address(addr, s.IPv6)
	return s, ok
}

// decodeReal reads a real server of a virtual one. It returns false for what is none.
func decodeReal(body []byte, ipv6 bool) (r RealState, ok bool) {
	var addr []byte
	var at uint16
	decode(body, attrDest, func(kind uint16, value []byte) {
		switch kind {
		case attrDestAddr:
			addr = value
		case attrDestPort:
			at = port(value)
		case attrDestWeight:
			r.Weight = number(value)
		case attrDestActive:
			r.Active = number(value)
		case attrDestInactive:
			r.Inactive = number(value)
		case attrDestFamily:
			ipv6 = number(value) == unix.AF_INET6
		}
	})
	ip, ok := address(addr, ipv6)
	r.Addr = netip.AddrPortFrom(ip, at)
	return r, ok
}

// number reads the first number of an attribute, of two bytes or four.
func number(value []byte) uint32 {
	switch {
	case len(value) >= 4:
		return binary.NativeEndian.Uint32(value)
	case len(value) >= 2:
		return uint32(binary.NativeEndian.Uint16(value))
	}
	return 0
}

func port(value []byte) uint16 {
	if len(value) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(value)
}

// address reads union nf_inet_addr: 16 bytes, of which an IPv4 address is the first four.
func address(value []byte, ipv6 bool) (netip.Addr, bool) {
	if !ipv6 && len(value) > 4 {
		value = value[:4]
	}
	return netip.AddrFromSlice(value)
}
