package iptables

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables/dispatch"
)

// family is what differs between iptables and ip6tables.
type family struct {
	ipv6 bool
	// unreachable is the answer of ICMP that tells a client that nobody listens.
	unreachable string
	// hairpin is classic BPF that accepts a packet whose source is its destination (bpf(4); the match sees the packet
	// from its IP header on).
	hairpin  string
	loopback string
}

func families() []family { return []family{ipv4(), ipv6()} }

func ipv4() family {
	return family{
		unreachable: " -j REJECT --reject-with icmp-port-unreachable",
		// ld [12]; tax; ld [16]; jne x, fail; ret 65535; ret 0
		hairpin:  "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0",
		loopback: "127.0.0.0/8",
	}
}

func ipv6() family {
	return family{
		ipv6:        true,
		unreachable: " -j REJECT --reject-with icmp6-port-unreachable",
		hairpin:     hairpinIPv6(),
		loopback:    "::1/128",
	}
}

// hairpinIPv6 compares the four words of the source address (offset 8) with those of the destination (offset 24).
func hairpinIPv6() string {
	const words = 4
	var code []string
	for i := range words {
		// ld [src]; tax; ld [dst]; jne x, fail
		toFail := 4*(words-1-i) + 1
		code = append(code, fmt.Sprintf("32 0 0 %d", 8+4*i), "7 0 0 0", fmt.Sprintf("32 0 0 %d", 24+4*i),
			fmt.Sprintf("29 0 %d 0", toFail))
	}
	code = append(code, "6 0 0 65535", "6 0 0 0")
	return fmt.Sprintf("%d,%s", len(code), strings.Join(code, ","))
}

// refuse is the answer to a client of a protocol that nobody listens. A client of TCP gets a reset, as from any host:
// Linux passes over an answer of ICMP that comes while the connecting process is still in the system call, which from the
// node itself is always, and the client would learn of it a second later.
func (f family) refuse(p forwarding.Protocol) string {
	if p == forwarding.TCP {
		return " -j REJECT --reject-with tcp-reset"
	}
	return f.unreachable
}

// refuseAll is refuse for packets of any protocol.
func (f family) refuseAll() []string {
	return []string{" -p tcp" + f.refuse(forwarding.TCP), f.unreachable}
}

func (f family) addressNibbles() int { return dispatch.AddressNibbles(f.ipv6) }

// match is what a prefix of a destination asks of a packet, as a piece of a rule.
func (f family) match(key dispatch.Key, addressNibbles int, comment string) string {
	m := key.Match(addressNibbles)
	var b strings.Builder
	if m.Addr.IsValid() {
		b.WriteString(" -d " + m.Addr.String())
	}
	if m.Protocol != 0 {
		b.WriteString(" -p " + m.Protocol.String())
	}
	if comment != "" {
		b.WriteString(" -m comment --comment " + quote(comment))
	}
	switch {
	case m.LastPort == 0:
	case m.FirstPort == m.LastPort:
		fmt.Fprintf(&b, " -m %s --dport %d", m.Protocol, m.FirstPort)
	default:
		fmt.Fprintf(&b, " -m %s --dport %d:%d", m.Protocol, m.FirstPort, m.LastPort)
	}
	return b.String()
}

// quote writes a string as iptables-save does: in quotation marks unless it is a plain word.
func quote(s string) string {
	plain := func(r rune) bool {
		return r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '\\', '"', '\'':
			b.WriteByte('\\')
		case '\n':
			r = ' '
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}

func dnat(backend netip.AddrPort) string { return " -j DNAT --to-destination " + backend.String() }
