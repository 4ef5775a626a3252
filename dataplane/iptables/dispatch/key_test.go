package dispatch_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables/dispatch"
)

func TestKeyMatch(t *testing.T) {
	v4 := dispatch.KeyOf(forwarding.Key{Addr: netip.MustParseAddr("10.96.0.10"), Port: 0x1f90, Protocol: forwarding.UDP})
	v6 := dispatch.KeyOf(forwarding.Key{Addr: netip.MustParseAddr("fd00:96::1f"), Port: 443, Protocol: forwarding.TCP})
	nodePort := dispatch.KeyOf(forwarding.Key{Port: 30000, Protocol: forwarding.SCTP})
	prefix := netip.MustParsePrefix
	for name, tc := range map[string]struct {
		key            dispatch.Key
		addressNibbles int
		want           dispatch.Match
		text           string
	}{
		"nothing":               {v4[:0], 8, dispatch.Match{}, ""},
		"IPv4 prefix":           {v4[:3], 8, dispatch.Match{Addr: prefix("10.96.0.0/12").Masked()}, "10.96.0.0/12"},
		"IPv4 address":          {v4[:8], 8, dispatch.Match{Addr: prefix("10.96.0.10/32")}, "10.96.0.10"},
		"address and protocol":  {v4[:9], 8, dispatch.Match{Addr: prefix("10.96.0.10/32"), Protocol: forwarding.UDP}, "10.96.0.10.udp"},
		"a range of ports":      {v4[:11], 8, dispatch.Match{prefix("10.96.0.10/32"), forwarding.UDP, 0x1f00, 0x1fff}, "10.96.0.10.udp.1f"},
		"everything":            {v4, 8, dispatch.Match{prefix("10.96.0.10/32"), forwarding.UDP, 8080, 8080}, "10.96.0.10.udp.1f90"},
		"IPv6 prefix":           {v6[:31], 32, dispatch.Match{Addr: prefix("fd00:96::10/124")}, "fd00:96::10/124"},
		"IPv6 address":          {v6[:32], 32, dispatch.Match{Addr: prefix("fd00:96::1f/128")}, "fd00:96::1f"},
		"IPv6 and port":         {v6, 32, dispatch.Match{prefix("fd00:96::1f/128"), forwarding.TCP, 443, 443}, "fd00:96::1f.tcp.01bb"},
		"protocol of node port": {nodePort[:1], 0, dispatch.Match{Protocol: forwarding.SCTP}, ".sctp"},
		"range of node ports":   {nodePort[:3], 0, dispatch.Match{Protocol: forwarding.SCTP, FirstPort: 0x7500, LastPort: 0x75ff}, ".sctp.75"},
		"node port":             {nodePort, 0, dispatch.Match{Protocol: forwarding.SCTP, FirstPort: 30000, LastPort: 30000}, ".sctp.7530"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.key.Match(tc.addressNibbles), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("Match (-want +got):\n%s", diff)
			}
			if got := tc.key.String(tc.addressNibbles); got != tc.text {
				t.Errorf("String is %q, want %q", got, tc.text)
			}
		})
	}
}

// A prefix must match exactly the packets whose keys begin with it.
func TestMatchIsThePrefix(t *testing.T) {
	for name, space := range spaces() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(4, 1))
			for range 3000 {
				a, b := space.draw(r), space.draw(r)
				if a.Protocol == 0 || b.Protocol == 0 {
					continue
				}
				key, packet := dispatch.KeyOf(a), dispatch.KeyOf(b)
				for n := range len(key) + 1 {
					m := key[:n].Match(space.addressNibbles)
					matched := (!m.Addr.IsValid() || m.Addr.Contains(b.Addr)) &&
						(m.Protocol == 0 || m.Protocol == b.Protocol) &&
						(m.LastPort == 0 || m.FirstPort <= b.Port && b.Port <= m.LastPort)
					if begins := n <= len(packet) && packet[:n] == key[:n]; matched != begins {
						t.Fatalf("prefix %x: packet %s matches: %v, begins with it: %v", key[:n], b, matched, begins)
					}
				}
			}
		})
	}
}
