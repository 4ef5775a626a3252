package iptables

import (
	"fmt"
	"net/netip"
	"slices"
)

// marksOffCluster says whether connections to cluster IPs are masqueraded for anybody.
func (r *renderer) marksOffCluster() bool {
	return r.settings.MasqueradeAll || r.settings.DetectsPods(r.ipv6)
}

// fixedNAT renders the chains of table nat that are always there. A tree without entries is not asked.
func (r *renderer) fixedNAT(anyNodePort bool) []chain {
	offCluster := chain{name: chainOffCluster}
	services := chain{name: chainServices}
	if r.marksOffCluster() {
		if !r.settings.MasqueradeAll {
			for _, pod := range r.settings.isPod(r.ipv6) {
				offCluster.rules = append(offCluster.rules, pod+" -j RETURN")
			}
		}
		offCluster.rules = append(offCluster.rules, r.markMasquerade())
		for _, cidr := range ofFamily(r.settings.ServiceCIDRs, r.ipv6) {
			services.rules = append(services.rules, fmt.Sprintf(" -d %s -j %s", cidr, chainOffCluster))
		}
	}
	services.rules = append(services.rules, " -j "+chainAddresses)
	if anyNodePort {
		for _, match := range r.isNodePortAddress() {
			services.rules = append(services.rules, match+" -j "+chainNodePorts)
		}
	}

	var postrouting []string
	if r.kernel.hairpins {
		postrouting = append(postrouting, fmt.Sprintf(` -m conntrack --ctstate DNAT -m bpf --bytecode "%s" -j MASQUERADE --random-fully`, r.hairpin))
	}
	bit := uint32(1) << r.settings.MarkBit
	postrouting = append(postrouting,
		fmt.Sprintf(" -m mark ! --mark %s -j RETURN", r.settings.mark()),
		// The packet may come by again, as when it is encapsulated, and must not be masqueraded twice.
		fmt.Sprintf(" -j MARK --set-xmark %#x/0x0", bit),
		" -j MASQUERADE --random-fully")
	return []chain{services, offCluster, {name: chainPostrouting, rules: postrouting}}
}

// fixedFilter renders the chains of table filter that are always there. A tree without entries is not asked.
func (r *renderer) fixedFilter(anyClosed, anyClosedPort bool, healthPorts []uint16) []chain {
	filter := chain{name: chainFilter}
	for _, cidr := range ofFamily(r.settings.ServiceCIDRs, r.ipv6) {
		filter.rules = append(filter.rules, fmt.Sprintf(" -d %s -g %s", cidr, chainRange))
	}
	if anyClosed {
		filter.rules = append(filter.rules, " -j "+chainClosed)
	}
	if anyClosedPort {
		for _, match := range r.isNodePortAddress() {
			filter.rules = append(filter.rules, match+" -j "+chainClosedPorts)
		}
	}
	forward := chain{name: chainForward}
	if !r.settings.KeepInvalid {
		// A packet that conntrack does not understand would leave with a pod's address instead of the Service's, and
		// the client would answer it with a reset.
		forward.rules = append(forward.rules, " -m conntrack --ctstate INVALID -j DROP")
	}
	forward.rules = append(forward.rules,
		fmt.Sprintf(" -m mark --mark %s -j ACCEPT", r.settings.mark()),
		" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")

	input := chain{name: chainInput}
	if !r.ipv6 {
		// With route_localnet, which stays set when node ports at 127.0.0.1 are closed again, the kernel takes packets for
		// 127.0.0.0/8 from the network (CVE-2020-8558); only those that are replies to, or were translated by, this node
		// may come in.
		input.rules = append(input.rules, fmt.Sprintf(" ! -s %s -d %s -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
			r.loopback, r.loopback))
	}
	for _, port := range healthPorts {
		input.rules = append(input.rules, fmt.Sprintf(" -p tcp -m comment --comment %s -m tcp --dport %d -j ACCEPT",
			quote("service proxy: health check node port"), port))
	}
	return []chain{filter, forward, input}
}

func (r *renderer) localhostNodePorts() bool { return !r.ipv6 && r.settings.LocalhostNodePortsOpen() }

// isNodePortAddress are the matches that together recognise addresses with node ports.
func (r *renderer) isNodePortAddress() []string {
	const local = " -m addrtype --dst-type LOCAL"
	networks := ofFamily(r.settings.NodePortAddresses, r.ipv6)
	everywhere := r.settings.NodePortAddresses == nil ||
		slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Bits() == 0 })
	switch {
	case everywhere && r.localhostNodePorts():
		return []string{local}
	case everywhere:
		return []string{" ! -d " + r.loopback + local}
	}
	var matches []string
	for _, cidr := range networks {
		if !cidr.Addr().IsLoopback() || r.localhostNodePorts() {
			matches = append(matches, " -d "+cidr.String()+local)
		}
	}
	return matches
}

// jump is a rule of ours in a chain that is not ours.
type jump struct {
	table, chain string
	rule         []string
}

// jumps are what leads packets to our chains, in the order in which they are to stand.
func jumps() []jump {
	to := func(table, from, target, comment string, match ...string) jump {
		return jump{table, from, append(match, "-m", "comment", "--comment", comment, "-j", target)}
	}
	return []jump{
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
