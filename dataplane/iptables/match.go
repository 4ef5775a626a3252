package iptables

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables/dispatch"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

// match is what a prefix of a destination asks of a packet, as a piece of a rule.
func (r *renderer) match(key dispatch.Key, addressNibbles int, comment string) string {
	m := key.Match(addressNibbles)
	var b strings.Builder
	if m.Addr.IsValid() {
		b.WriteString(" -d " + m.Addr.String())
	}
	if m.Protocol != 0 {
		b.WriteString(" -p " + m.Protocol.String())
	}
	switch {
	case m.LastPort == 0:
	case m.FirstPort == m.LastPort:
		fmt.Fprintf(&b, " -m %s --dport %d", m.Protocol, m.FirstPort)
	default:
		fmt.Fprintf(&b, " -m %s --dport %d:%d", m.Protocol, m.FirstPort, m.LastPort)
	}
	if comment != "" {
		b.WriteString(" -m comment --comment " + nft.Quote(comment))
	}
	return b.String()
}

func dnat(backend netip.AddrPort) string { return " -j DNAT --to-destination " + backend.String() }
