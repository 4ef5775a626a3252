package routes

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// header is struct rtmsg, as far as it is used: table, protocol, scope and type are those of ip-route(8).
type header struct {
	family, bits           uint8
	table, protocol, scope uint8
	kind                   uint8
}

func (h header) encode() netlink.Attributes {
	const noSource, noService, noFlags = 0, 0, 0
	return netlink.Attributes{h.family, h.bits, noSource, noService, h.table, h.protocol, h.scope, h.kind, noFlags, 0, 0, 0}
}

func family(ipv6 bool) uint8 {
	if ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// encode is the request for a change. Ours is the only route that a removal can mean, because of its protocol number.
func (c *change) encode() netlink.Request {
	h := header{
		family: family(c.Prefix.Addr().Is6()), bits: uint8(c.Prefix.Bits()),
		table: unix.RT_TABLE_LOCAL, protocol: Protocol, kind: unix.RTN_LOCAL, scope: unix.RT_SCOPE_HOST,
	}
	body := h.encode()
	body.Bytes(unix.RTA_DST, c.Prefix.Addr().AsSlice())
	body.Uint32(unix.RTA_OIF, loopback)
	if c.Source.IsValid() {
		body.Bytes(unix.RTA_PREFSRC, c.Source.AsSlice())
	}
	return netlink.Request{Type: c.kind, Flags: c.flags, Body: body}
}

// decode reads a route. It returns false where it is not ours.
func decode(body []byte) (r Route, ours bool) {
	if len(body) < unix.SizeofRtMsg {
		return r, false
	}
	bits, table, protocol, kind := body[1], uint32(body[4]), body[5], body[7]
	r.Type = Local
	addr := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		addr = netip.IPv6Unspecified()
	}
	ok := true
	netlink.Each(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_DST:
			addr, ok = netip.AddrFromSlice(value)
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(value)
		case unix.RTA_TABLE:
			if len(value) >= 4 {
				table = binary.NativeEndian.Uint32(value)
			}
		}
	})
	if !ok || table != unix.RT_TABLE_LOCAL || protocol != Protocol || kind != unix.RTN_LOCAL {
		return r, false
	}
	r.Prefix = netip.PrefixFrom(addr, int(bits))
	return r, r.Prefix.IsValid()
}
