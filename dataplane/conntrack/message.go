package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// The numbers of include/uapi/linux/netfilter/nfnetlink_conntrack.h and, for what a filter compares, of
// net/netfilter/nf_internals.h.
const (
	messageNew    = unix.NFNL_SUBSYS_CTNETLINK << 8
	messageGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	messageDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	attrTupleOrig  = 1
	attrTupleReply = 2
	attrID         = 12
	attrZone       = 18
	attrFilter     = 25 // since Linux 5.8

	attrTupleIP    = 1
	attrTupleProto = 2

	attrIPv4Source      = 1
	attrIPv4Destination = 2
	attrIPv6Source      = 3
	attrIPv6Destination = 4

	attrProtoNumber      = 1
	attrProtoSource      = 2
	attrProtoDestination = 3

	attrFilterOrig = 1

	filterDestination     = 1 << 1
	filterProtoNumber     = 1 << 3
	filterProtoDestinaton = 1 << 5
)

// sizeofGeneric is what comes before the attributes of a message: struct nfgenmsg.
const sizeofGeneric = 4

// filter is which UDP flows the kernel is asked for: those of a family, with one destination address and port where
// they are given.
type filter struct {
	ipv6 bool
	addr netip.Addr
	port uint16
}

func (f filter) family() uint8 {
	if f.ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// takes says whether a flow is one that was asked for.
func (f filter) takes(e *entry) bool {
	return e.protocol == unix.IPPROTO_UDP && (!f.addr.IsValid() || f.addr == e.to.Addr()) &&
		(f.port == 0 || f.port == e.to.Port())
}

// request asks for flows. Without attribute CTA_FILTER the kernel returns all flows of the family.
func (f filter) request(filtered bool) netlink.Request {
	body := begin(f.family())
	if filtered {
		flags := uint32(filterProtoNumber)
		body.Nested(attrTupleOrig, func(a *netlink.Attributes) {
			if f.addr.IsValid() {
				flags |= filterDestination
				kind := uint16(attrIPv4Destination)
				if f.ipv6 {
					kind = attrIPv6Destination
				}
				a.Nested(attrTupleIP, func(a *netlink.Attributes) { a.Bytes(kind, f.addr.AsSlice()) })
			}
			a.Nested(attrTupleProto, func(a *netlink.Attributes) {
				a.Uint8(attrProtoNumber, unix.IPPROTO_UDP)
				if f.port != 0 {
					flags |= filterProtoDestinaton
					a.Bytes(attrProtoDestination, binary.BigEndian.AppendUint16(nil, f.port))
				}
			})
		})
		body.Nested(attrFilter, func(a *netlink.Attributes) { a.Uint32(attrFilterOrig, flags) })
	}
	return netlink.Request{Type: messageGet, Body: body}
}

// removal deletes a flow. The kernel finds it by its tuple and zone, and deletes nothing if it is another flow by now,
// because the ID differs then.
func (e *entry) removal() netlink.Request {
	body := begin(e.family)
	for _, attr := range e.identity {
		body = append(body, attr...)
	}
	return netlink.Request{Type: messageDelete, Body: body}
}

func begin(family uint8) netlink.Attributes {
	return netlink.Attributes{family, unix.NFNETLINK_V0, 0, 0}
}

// entry is a flow as the kernel reports it, as far as it is read. It is good until the next message is read.
type entry struct {
	flow
	protocol, family uint8
	// identity are the attributes that name the flow, as the kernel wrote them: tuple, zone and ID.
	identity [3][]byte
}

// parse reads what follows the netlink header of a message about a flow. It returns false for what is no such message.
func (e *entry) parse(body []byte) bool {
	if len(body) < sizeofGeneric {
		return false
	}
	*e = entry{family: body[0]}
	var orig, reply tuple
	for rest := body[sizeofGeneric:]; len(rest) > 0; {
		a, ok := netlink.Next(&rest)
		if !ok {
			return false
		}
		switch a.Kind {
		case attrTupleOrig:
			ok = orig.parse(a.Value)
			e.identity[0] = a.Whole
		case attrTupleReply:
			ok = reply.parse(a.Value)
		case attrZone:
			ok = len(a.Value) == 2
			if ok {
				e.zone = binary.BigEndian.Uint16(a.Value)
			}
			e.identity[1] = a.Whole
		case attrID:
			e.identity[2] = a.Whole
		}
		if !ok {
			return false
		}
	}
	e.protocol = orig.protocol
	e.to = netip.AddrPortFrom(orig.destination, orig.destinationPort)
	e.from = netip.AddrPortFrom(reply.source, reply.sourcePort)
	return e.identity[0] != nil && reply.source.IsValid()
}

// tuple is one direction of a flow. Its ports are 0 where the protocol has none.
type tuple struct {
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
	protocol                    uint8
}

func (t *tuple) parse(value []byte) bool {
	for len(value) > 0 {
		a, ok := netlink.Next(&value)
		if !ok {
			return false
		}
		switch a.Kind {
		case attrTupleIP:
			ok = t.parseIP(a.Value)
		case attrTupleProto:
			ok = t.parseProto(a.Value)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (t *tuple) parseIP(value []byte) bool {
	for len(value) > 0 {
		a, ok := netlink.Next(&value)
		if !ok {
			return false
		}
		addr, ok := netip.AddrFromSlice(a.Value)
		switch a.Kind {
		case attrIPv4Source, attrIPv6Source:
			t.source = addr
		case attrIPv4Destination, attrIPv6Destination:
			t.destination = addr
		}
		if !ok {
			return false
		}
	}
	return true
}

func (t *tuple) parseProto(value []byte) bool {
	for len(value) > 0 {
		a, ok := netlink.Next(&value)
		if !ok {
			return false
		}
		switch {
		case a.Kind == attrProtoNumber && len(a.Value) == 1:
			t.protocol = a.Value[0]
		case a.Kind == attrProtoSource && len(a.Value) == 2:
			t.sourcePort = binary.BigEndian.Uint16(a.Value)
		case a.Kind == attrProtoDestination && len(a.Value) == 2:
			t.destinationPort = binary.BigEndian.Uint16(a.Value)
		}
	}
	return true
}
