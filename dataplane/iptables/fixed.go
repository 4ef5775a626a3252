package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// marksOffCluster says whether connections to cluster IPs are masqueraded for anybody.
func (r *renderer) marksOffCluster() bool {
	return r.settings.MasqueradeAll || r.settings.DetectsPods(r.IPv6)
}

// fixedNAT renders the chains of table nat that are always there. A tree without entries is not asked.
func (r *renderer) fixedNAT(anyNodePort bool) []xtables.Chain {
	offCluster := xtables.Chain{Name: chainOffCluster}
	services := xtables.Chain{Name: chainServices}
	if marks := r.settings.ForeignMarks; marks != 0 {
		services.Rules = append(services.Rules, fmt.Sprintf(" -m mark ! --mark 0x0/%#x -m addrtype --src-type LOCAL -j MARK --set-xmark 0x0/%#x", marks, marks))
	}
	if r.marksOffCluster() {
		if !r.settings.MasqueradeAll {
			for _, pod := range r.settings.isPod(r.IPv6) {
				offCluster.Rules = append(offCluster.Rules, pod+" -j RETURN")
			}
		}
		offCluster.Rules = append(offCluster.Rules, r.markMasquerade())
		for _, cidr := range xtables.OfFamily(r.settings.ServiceCIDRs, r.IPv6) {
			services.Rules = append(services.Rules, fmt.Sprintf(" -d %s -j %s", cidr, chainOffCluster))
		}
	}
	services.Rules = append(services.Rules, " -j "+chainAddresses)
	if anyNodePort {
		for _, match := range r.isNodePortAddress() {
			services.Rules = append(services.Rules, match+" -j "+chainNodePorts)
		}
	}

	postrouting := r.Masquerade(xtables.MarkBit(r.settings.MarkBit), " -m conntrack --ctstate DNAT")
	return []xtables.Chain{services, offCluster, {Name: chainPostrouting, Rules: postrouting}}
}

// fixedFilter renders the chains of table filter that are always there. A tree without entries is not asked.
func (r *renderer) fixedFilter(anyClosed, anyClosedPort bool, healthPorts []uint16) []xtables.Chain {
	filter := xtables.Chain{Name: chainFilter}
	for _, cidr := range xtables.OfFamily(r.settings.ServiceCIDRs, r.IPv6) {
		filter.Rules = append(filter.Rules, fmt.Sprintf(" -d %s -g %s", cidr, chainRange))
	}
	if anyClosed {
		filter.Rules = append(filter.Rules, " -j "+chainClosed)
	}
	if anyClosedPort {
		for _, match := range r.isNodePortAddress() {
			filter.Rules = append(filter.Rules, match+" -j "+chainClosedPorts)
		}
	}
	forward := xtables.Chain{Name: chainForward, Rules: r.Forward(xtables.MarkBit(r.settings.MarkBit), r.settings.KeepInvalid)}
	input := xtables.Chain{Name: chainInput, Rules: r.Input(healthPorts)}
	return []xtables.Chain{filter, forward, input}
}

func (r *renderer) localhostNodePorts() bool { return !r.IPv6 && r.settings.LocalhostNodePortsOpen() }

// isNodePortAddress are the matches that together recognise addresses with node ports.
func (r *renderer) isNodePortAddress() []string {
	const local = " -m addrtype --dst-type LOCAL"
	networks := xtables.OfFamily(r.settings.NodePortAddresses, r.IPv6)
	everywhere := r.settings.NodePortAddresses == nil ||
		slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Bits() == 0 })
	switch {
	case everywhere && r.localhostNodePorts():
		return []string{local}
	case everywhere:
		return []string{" ! -d " + r.Loopback + local}
	}
	var matches []string
	for _, cidr := range networks {
		if !cidr.Addr().IsLoopback() || r.localhostNodePorts() {
			matches = append(matches, " -d "+cidr.String()+local)
		}
	}
	return matches
}

// jumps are what leads packets to our chains, in the order in which they are to stand.
func jumps() []xtables.Jump {
	to := xtables.NewJump
	return []xtables.Jump{
		to("nat", "POSTROUTING", chainPostrouting, "service proxy: masquerade"),
		to("nat", "PREROUTING", chainServices, "service proxy: Services"),
		to("nat", "OUTPUT", chainServices, "service proxy: Services"),
		to("filter", "INPUT", chainInput, "service proxy: health checks and localhost"),
		to("filter", "FORWARD", chainForward, "service proxy: forwarded Service traffic"),
		to("filter", "INPUT", chainFilter, "service proxy: nobody to send to", "-m", "conntrack", "--ctstate", "NEW"),
		to("filter", "OUTPUT", chainFilter, "service proxy: nobody to send to", "-m", "conntrack", "--ctstate", "NEW"),
		to("filter", "FORWARD", chainFilter, "service proxy: nobody to send to", "-m", "conntrack", "--ctstate", "NEW"),
	}
}
