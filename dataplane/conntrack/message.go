package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
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

// The sizes of what comes before the attributes of a message: struct nlmsghdr and struct nfgenmsg.
const (
	sizeofHeader  = unix.SizeofNlMsghdr
	sizeofGeneric = 4
)

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

// writer appends netlink messages to a buffer.
type writer struct{ buffer []byte }

// begin appends the headers of a message, and end completes it.
func (w *writer) begin(kind, flags uint16, sequence uint32, family uint8) (start int) {
	start = len(w.buffer)
	w.buffer = binary.NativeEndian.AppendUint32(w.buffer, 0) // its length
	w.buffer = binary.NativeEndian.AppendUint16(w.buffer, kind)
	w.buffer = binary.NativeEndian.AppendUint16(w.buffer, unix.NLM_F_REQUEST|flags)
	w.buffer = binary.NativeEndian.AppendUint32(w.buffer, sequence)
	w.buffer = binary.NativeEndian.AppendUint32(w.buffer, 0) // port of the kernel
	w.buffer = append(w.buffer, family, unix.NFNETLINK_V0, 0, 0)
	return start
}

func (w *writer) end(start int) {
	binary.NativeEndian.PutUint32(w.buffer[start:], uint32(len(w.buffer)-start))
}

func (w *writer) attribute(kind uint16, value []byte) {
	w.buffer = binary.NativeEndian.AppendUint16(w.buffer, uint16(unix.SizeofNlAttr+len(value)))
	w.buffer = binary.NativeEndian.AppendUint16(w.buffer, kind)
	w.buffer = append(w.buffer, value...)
	for len(w.buffer)%unix.NLA_ALIGNTO != 0 {
		w.buffer = append(w.buffer, 0)
	}
}

func (w *writer) nest(kind uint16, inside func()) {
	start := len(w.buffer)
	w.attribute(kind|unix.NLA_F_NESTED, nil)
	inside()
	binary.NativeEndian.PutUint16(w.buffer[start:], uint16(len(w.buffer)-start))
}

// dump appends a request for flows. Without attribute CTA_FILTER the kernel returns all flows of the family.
func (w *writer) dump(f filter, filtered bool, sequence uint32) {
	start := w.begin(messageGet, unix.NLM_F_DUMP, sequence, f.family())
	if filtered {
		flags := uint32(filterProtoNumber)
		w.nest(attrTupleOrig, func() {
			if f.addr.IsValid() {
				flags |= filterDestination
				kind := uint16(attrIPv4Destination)
				if f.ipv6 {
					kind = attrIPv6Destination
				}
				w.nest(attrTupleIP, func() { w.attribute(kind, f.addr.AsSlice()) })
			}
			w.nest(attrTupleProto, func() {
				w.attribute(attrProtoNumber, []byte{unix.IPPROTO_UDP})
				if f.port != 0 {
					flags |= filterProtoDestinaton
					w.attribute(attrProtoDestination, binary.BigEndian.AppendUint16(nil, f.port))
				}
			})
		})
		w.nest(attrFilter, func() { w.attribute(attrFilterOrig, binary.NativeEndian.AppendUint32(nil, flags)) })
	}
	w.end(start)
}

// remove appends a request to delete a flow. The kernel finds it by its tuple and zone, and deletes nothing if it is
// another flow by now, because the ID differs then.
func (w *writer) remove(e *entry, flags uint16, sequence uint32) {
	start := w.begin(messageDelete, flags, sequence, e.family)
	for _, attr := range e.identity {
		w.buffer = append(w.buffer, attr...)
	}
	w.end(start)
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
		a, ok := nextAttribute(&rest)
		if !ok {
			return false
		}
		switch a.kind {
		case attrTupleOrig:
			ok = orig.parse(a.value)
			e.identity[0] = a.whole
		case attrTupleReply:
			ok = reply.parse(a.value)
		case attrZone:
			ok = len(a.value) == 2
			if ok {
				e.zone = binary.BigEndian.Uint16(a.value)
			}
			e.identity[1] = a.whole
		case attrID:
			e.identity[2] = a.whole
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
		a, ok := nextAttribute(&value)
		if !ok {
			return false
		}
		switch a.kind {
		case attrTupleIP:
			ok = t.parseIP(a.value)
		case attrTupleProto:
			ok = t.parseProto(a.value)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (t *tuple) parseIP(value []byte) bool {
	for len(value) > 0 {
		a, ok := nextAttribute(&value)
		if !ok {
			return false
		}
		addr, ok := netip.AddrFromSlice(a.value)
		switch a.kind {
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
		a, ok := nextAttribute(&value)
		if !ok {
			return false
		}
		switch {
		case a.kind == attrProtoNumber && len(a.value) == 1:
			t.protocol = a.value[0]
		case a.kind == attrProtoSource && len(a.value) == 2:
			t.sourcePort = binary.BigEndian.Uint16(a.value)
		case a.kind == attrProtoDestination && len(a.value) == 2:
			t.destinationPort = binary.BigEndian.Uint16(a.value)
		}
	}
	return true
}

// attribute is a netlink attribute (struct nlattr). Its slices point into the message.
type attribute struct {
	kind  uint16
	value []byte
	whole []byte // with its header and padding
}

// nextAttribute takes the first attribute off a buffer. It returns false where the buffer does not hold a whole one.
func nextAttribute(buffer *[]byte) (attribute, bool) {
	b := *buffer
	if len(b) < unix.SizeofNlAttr {
		return attribute{}, false
	}
	length := int(binary.NativeEndian.Uint16(b))
	if length < unix.SizeofNlAttr || length > len(b) {
		return attribute{}, false
	}
	padded := min((length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b))
	*buffer = b[padded:]
	kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	return attribute{kind: kind, value: b[unix.SizeofNlAttr:length], whole: b[:padded]}, true
}
