package iptables

import (
	"net/netip"
	"slices"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Settings are what the rules depend on besides the forwarding table. It is a value: Equal settings give equal rules.
type Settings struct {
	// MarkBit is the bit of the packet mark that asks for masquerading, 0 to 31.
	MarkBit int
	// MasqueradeAll asks to masquerade every connection through a cluster IP.
	MasqueradeAll bool
	// PodCIDRs tells packets of pods by their source; PodInterface, where it is set, by the interface they come in
	// through: a name, or a prefix of names followed by a plus sign.
	PodCIDRs     []netip.Prefix
	PodInterface string
	// ServiceCIDRs are the networks of cluster IPs. What no Service takes there is rejected.
	ServiceCIDRs []netip.Prefix
	// NodePortAddresses are the networks whose addresses on the node have node ports; every address when nil.
	NodePortAddresses []netip.Prefix
	// LocalhostNodePorts opens node ports at 127.0.0.1 too, where NodePortAddresses allows that address. The sysctl
	// net.ipv4.conf.all.route_localnet must be set for it to work.
	LocalhostNodePorts bool
	// KeepInvalid lets packets pass that conntrack finds invalid, as is right with nf_conntrack_tcp_be_liberal.
	KeepInvalid bool
	// ForeignMarks are bits of the packet mark that are taken off packets of the node itself before they get an address
	// here, while mode IPVS is in the kernel too: IPVS looks at packets after that, and would lead those with its marks
	// somewhere else once more. None when 0.
	ForeignMarks uint32
}

// LocalhostNodePortsOpen says whether node ports are to be open at 127.0.0.1.
func (s *Settings) LocalhostNodePortsOpen() bool {
	return s.LocalhostNodePorts && (s.NodePortAddresses == nil || slices.ContainsFunc(s.NodePortAddresses, isIPv4Loopback))
}

func isIPv4Loopback(p netip.Prefix) bool { return p.Addr().Is4() && p.Addr().IsLoopback() }

func (s *Settings) equal(t *Settings) bool {
	return s.MarkBit == t.MarkBit && s.MasqueradeAll == t.MasqueradeAll && s.PodInterface == t.PodInterface &&
		s.LocalhostNodePorts == t.LocalhostNodePorts && s.KeepInvalid == t.KeepInvalid && s.ForeignMarks == t.ForeignMarks &&
		slices.Equal(s.PodCIDRs, t.PodCIDRs) && slices.Equal(s.ServiceCIDRs, t.ServiceCIDRs) &&
		slices.Equal(s.NodePortAddresses, t.NodePortAddresses) &&
		(s.NodePortAddresses == nil) == (t.NodePortAddresses == nil)
}

// isPod are the matches that together recognise packets of pods in one family; none where they cannot be told.
func (s *Settings) isPod(ipv6 bool) []string {
	return xtables.Pods{CIDRs: s.PodCIDRs, Interface: s.PodInterface}.Matches(ipv6)
}

// DetectsPods says whether packets of pods can be told from others in a family.
func (s *Settings) DetectsPods(ipv6 bool) bool { return len(s.isPod(ipv6)) > 0 }

func (s *Settings) inServiceCIDR(addr netip.Addr) bool {
	return slices.ContainsFunc(s.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(addr) })
}
