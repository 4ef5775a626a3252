package ipset

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// FuzzEntry reads entries of sets that no kernel would list. What has an address and a kind reads the same when it is
// written again.
func FuzzEntry(f *testing.F) {
	for _, e := range []Entry{
		{Addr: netip.MustParseAddr("172.30.0.1"), Protocol: unix.IPPROTO_TCP, Port: 80, Mark: 0x4000, Mask: 0x4000},
		{Addr: netip.MustParseAddr("fd00::1"), Protocol: unix.IPPROTO_UDP, Port: 53, Net: netip.MustParsePrefix("fd00::/64")},
		{Addr: netip.MustParseAddr("172.30.0.1")},
	} {
		for _, kind := range []Kind{Addr, AddrPort, AddrPortMark, AddrPortNet} {
			if kind == AddrPortNet && !e.Net.IsValid() {
				continue
			}
			var a netlink.Attributes
			e.encode(&a, kind, 1)
			f.Add([]byte(a))
		}
	}
	f.Fuzz(func(t *testing.T, attributes []byte) {
		e := decode(attributes)
		_ = e.String()
		if !e.Addr.IsValid() {
			return
		}
		kind := AddrPortMark
		if e.Net.IsValid() {
			kind, e.Mark, e.Mask = AddrPortNet, 0, 0
		}
		var a netlink.Attributes
		e.encode(&a, kind, 1)
		if again := decode(a); again != e && (e.Net.IsValid() || e.Net == netip.Prefix{}) {
			t.Errorf("%+v is read as %+v when it is written again", e, again)
		}
	})
}
