package ipset

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// Entry is an element of a set. Fields that the kind of the set does not have are zero.
type Entry struct {
	Addr netip.Addr
	// Protocol is an IPPROTO number of one that has ports: TCP, UDP or SCTP.
	Protocol uint8
	Port     uint16
	// Net is a network in its masked form, of at least one bit.
	Net netip.Prefix
	// Mark is what the bits in Mask of a packet's mark become, where a rule asks for it (SET --map-mark).
	Mark, Mask uint32
}

// String is the entry in the words of ipset(8), without its mark.
func (e Entry) String() string {
	text := e.Addr.String()
	if e.Protocol != 0 {
		text += fmt.Sprintf(",%s:%d", protocolName(e.Protocol), e.Port)
	}
	switch {
	case e.Net.IsSingleIP():
		text += "," + e.Net.Addr().String()
	case e.Net.IsValid():
		text += "," + e.Net.String()
	}
	return text
}

func protocolName(protocol uint8) string {
	switch protocol {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprint(protocol)
}

// encode adds the entry as one of a kind. Should the kernel not take it, it says so by its number, which is not 0.
func (e *Entry) encode(a *netlink.Attributes, kind Kind, number int) {
	encodeAddr(a, nl.IPSET_ATTR_IP, e.Addr)
	if kind != Addr {
		a.NetUint16(nl.IPSET_ATTR_PORT, e.Port)
		a.Uint8(nl.IPSET_ATTR_PROTO, e.Protocol)
	}
	switch kind {
	case AddrPortMark:
		both := uint64(e.Mark)<<32 | uint64(e.Mask)
		a.Bytes(nl.IPSET_ATTR_SKBMARK|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint64(nil, both))
	case AddrPortNet:
		encodeAddr(a, nl.IPSET_ATTR_IP2, e.Net.Addr())
		a.Uint8(nl.IPSET_ATTR_CIDR2, uint8(e.Net.Bits()))
	}
	a.NetUint32(nl.IPSET_ATTR_LINENO, uint32(number))
}

func encodeAddr(a *netlink.Attributes, kind uint16, addr netip.Addr) {
	family := uint16(nl.IPSET_ATTR_IPADDR_IPV4)
	if addr.Is6() {
		family = nl.IPSET_ATTR_IPADDR_IPV6
	}
	a.Nested(kind, func(a *netlink.Attributes) { a.Bytes(family|unix.NLA_F_NET_BYTEORDER, addr.AsSlice()) })
}

// decode reads what encode writes, from a list.
func decode(attributes []byte) Entry {
	var e Entry
	var network netip.Addr
	bits := -1
	netlink.Each(attributes, func(kind uint16, value []byte) {
		switch {
		case kind == nl.IPSET_ATTR_IP:
			e.Addr = decodeAddr(value)
		case kind == nl.IPSET_ATTR_PORT && len(value) == 2:
			e.Port = binary.BigEndian.Uint16(value)
		case kind == nl.IPSET_ATTR_PROTO && len(value) == 1:
			e.Protocol = value[0]
		case kind == nl.IPSET_ATTR_SKBMARK && len(value) == 8:
			both := binary.BigEndian.Uint64(value)
			e.Mark, e.Mask = uint32(both>>32), uint32(both)
		case kind == nl.IPSET_ATTR_IP2:
			network = decodeAddr(value)
		case kind == nl.IPSET_ATTR_CIDR2 && len(value) == 1:
			bits = int(value[0])
		}
	})
	if network.IsValid() {
		if bits < 0 {
			bits = network.BitLen() // the kernel leaves it out for a single address
		}
		e.Net = netip.PrefixFrom(network, bits)
	}
	return e
}

func decodeAddr(value []byte) (addr netip.Addr) {
	netlink.Each(value, func(_ uint16, value []byte) { addr, _ = netip.AddrFromSlice(value) })
	return addr
}
