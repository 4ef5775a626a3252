package xtables

import (
	"fmt"
	"net/netip"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

// Refuse is the answer to a client of a protocol that nobody listens. A client of TCP gets a reset, as from any host:
// Linux passes over an answer of ICMP that comes while the connecting process is still in the system call, which from the
// node itself is always, and the client would learn of it a second later.
func (f Family) Refuse(p forwarding.Protocol) string {
	if p == forwarding.TCP {
		return " -j REJECT --reject-with tcp-reset"
	}
	return f.unreachable
}

// RefuseAll is Refuse for packets of any protocol.
func (f Family) RefuseAll() []string {
	return []string{" -p tcp" + f.Refuse(forwarding.TCP), f.unreachable}
}

// Pods says how packets of pods are told from others.
type Pods struct {
	// CIDRs tells them by their source; Interface, where it is set, by the interface they come in through: a name, or a
	// prefix of names followed by a plus sign.
	CIDRs     []netip.Prefix
	Interface string
}

// Matches are the matches that together recognise packets of pods in one family; none where they cannot be told.
func (p Pods) Matches(ipv6 bool) []string {
	if p.Interface != "" {
		return []string{" -i " + p.Interface}
	}
	var matches []string
	for _, cidr := range OfFamily(p.CIDRs, ipv6) {
		matches = append(matches, " -s "+cidr.String())
	}
	return matches
}

// OfFamily are the prefixes of one family.
func OfFamily(prefixes []netip.Prefix, ipv6 bool) []netip.Prefix {
	var found []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().Is6() == ipv6 {
			found = append(found, p)
		}
	}
	return found
}

// MarkBit is the bit of the packet mark that asks for masquerading, 0 to 31.
type MarkBit int

// String is the bit as a mark and its mask.
func (m MarkBit) String() string { return fmt.Sprintf("%#x/%#x", uint32(1)<<m, uint32(1)<<m) }

// Set is the target that asks for masquerading.
func (m MarkBit) Set() string { return " -j MARK --set-xmark " + m.String() }

// Masquerade is what table nat does after routing: it masquerades the hairpins among the packets that translated matches,
// where there is one rule for all of them, and what is marked.
func (t *Programs) Masquerade(m MarkBit, translated string) []string {
	var rules []string
	if t.MatchesHairpins {
		rules = append(rules, fmt.Sprintf(`%s -m bpf --bytecode "%s" -j MASQUERADE --random-fully`, translated, t.hairpin))
	}
	return append(rules,
		fmt.Sprintf(" -m mark ! --mark %s -j RETURN", m),
		// The packet may come by again, as when it is encapsulated, and must not be masqueraded twice.
		fmt.Sprintf(" -j MARK --set-xmark %#x/0x0", uint32(1)<<m),
		" -j MASQUERADE --random-fully")
}

// Forward lets Service traffic pass through the node. A packet that conntrack does not understand would leave with a pod's
// address instead of the Service's, and the client would answer it with a reset; it is dropped unless keepInvalid.
func (f Family) Forward(m MarkBit, keepInvalid bool) []string {
	var rules []string
	if !keepInvalid {
		rules = append(rules, " -m conntrack --ctstate INVALID -j DROP")
	}
	return append(rules,
		fmt.Sprintf(" -m mark --mark %s -j ACCEPT", m),
		" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
}

// Input keeps the network away from 127.0.0.0/8 and lets load balancers ask at the ports of health checks.
func (f Family) Input(healthPorts []uint16) []string {
	var rules []string
	if !f.IPv6 {
		// With route_localnet, which stays set when node ports at 127.0.0.1 are closed again, the kernel takes packets for
		// 127.0.0.0/8 from the network (CVE-2020-8558); only those that are replies to, or were translated by, this node
		// may come in.
		rules = append(rules, fmt.Sprintf(" ! -s %s -d %s -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
			f.Loopback, f.Loopback))
	}
	for _, port := range healthPorts {
		rules = append(rules, fmt.Sprintf(" -p tcp -m tcp --dport %d -m comment --comment %s -j ACCEPT",
			port, nft.Quote("service proxy: health check node port")))
	}
	return rules
}
