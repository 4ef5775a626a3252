package ipvs

import (
	"fmt"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// rules are the rules of one family. They say in a fixed number what the sets say of every frontend:
//
//	mangle INPUT, OUTPUT (new connections)  drops sources that are not allowed, and marks by class of client
//	filter INPUT, OUTPUT (new connections)  rejects or drops what is for no virtual server
//	       INPUT, FORWARD                   as in iptables mode
//	nat    POSTROUTING                      masquerades what is marked, and hairpins
//	mangle POSTROUTING                      takes our marks off again
//
// IPVS takes packets of others in INPUT after table filter, and those of the node itself in OUTPUT before it
// (ip_vs_ops4 in net/netfilter/ipvs/ip_vs_core.c). What still has the address of a Service in table filter of OUTPUT is
// therefore what no virtual server took.
type rules struct {
	*xtables.Programs
	settings    *Settings
	healthPorts []uint16
	// former is the bit by which entries of sets ask for masquerading that have not been written anew since the settings
	// named another; nil when there are none.
	former *xtables.MarkBit
	// unmarks says that rules can recognise packets that IPVS has handled (xt_ipvs).
	unmarks bool
}

func (r *rules) matchSet(k kind, directions string) string {
	return fmt.Sprintf(" -m set --match-set %s %s", k.set(r.IPv6).Name, directions)
}

func (r *rules) notInSet(k kind, directions string) string {
	return fmt.Sprintf(" -m set ! --match-set %s %s", k.set(r.IPv6).Name, directions)
}

func (r *rules) bit() xtables.MarkBit { return xtables.MarkBit(r.settings.MarkBit) }

// mangle are the chains of table mangle.
func (r *rules) mangle() []xtables.Chain {
	in := xtables.Chain{Name: chainIn}
	for _, pod := range r.settings.Pods.Matches(r.IPv6) {
		in.Rules = append(in.Rules, pod+" -g "+chainPod)
	}
	in.Rules = append(in.Rules, " -g "+chainRemote)
	chains := []xtables.Chain{in, {Name: chainOut, Rules: []string{" -g " + chainHost}}}
	for name, k := range map[string]kind{chainPod: setPod, chainHost: setHost, chainRemote: setRemote} {
		chains = append(chains, xtables.Chain{Name: name, Rules: []string{
			r.matchSet(setLimited, "dst,dst") + r.notInSet(setSources, "dst,dst,src") + " -j DROP",
			fmt.Sprintf(" -j SET --map-set %s dst,dst --map-mark", k.set(r.IPv6).Name),
		}})
	}
	unmark := xtables.Chain{Name: chainUnmark}
	if r.unmarks {
		ours := spread(1<<markBits-1, r.settings.MarkBit)
		if r.former != nil {
			ours &^= 1 << *r.former
		}
		unmark.Rules = []string{fmt.Sprintf(" -m ipvs --ipvs -m mark ! --mark 0x0/%#x -j MARK --set-xmark 0x0/%#x", ours, ours)}
	}
	return append(chains, unmark)
}

// filter are the chains of table filter.
func (r *rules) filter() []xtables.Chain {
	in := xtables.Chain{Name: chainFilterIn}
	for _, pod := range r.settings.Pods.Matches(r.IPv6) {
		in.Rules = append(in.Rules, pod+" -g "+chainFilterPod)
	}
	in.Rules = append(in.Rules, r.matchSet(setRemote, "dst,dst")+" -j RETURN", " -g "+chainClosed)
	closed := xtables.Chain{Name: chainClosed, Rules: []string{
		r.matchSet(setDropped, "dst,dst") + " -j DROP",
		r.matchSet(setRejected, "dst,dst") + " -g " + chainRefuse,
		r.matchSet(setRouted, "dst") + " -g " + chainRefuse,
	}}
	for _, cidr := range xtables.OfFamily(r.settings.ServiceCIDRs, r.IPv6) {
		closed.Rules = append(closed.Rules, fmt.Sprintf(" -d %s%s -g %s", cidr, r.notInSet(setIgnored, "dst"), chainRefuse))
	}
	return []xtables.Chain{
		in, closed,
		{Name: chainFilterPod, Rules: []string{r.matchSet(setPod, "dst,dst") + " -j RETURN", " -g " + chainClosed}},
		{Name: chainRefuse, Rules: r.RefuseAll()},
		{Name: chainInput, Rules: r.Input(r.healthPorts)},
		{Name: chainForward, Rules: r.Forward(r.bit(), r.settings.KeepInvalid)},
	}
}

// nat are the chains of table nat. A packet that a process of the node sends to the node itself is no hairpin.
func (r *rules) nat() []xtables.Chain {
	c := xtables.Chain{Name: chainPostrouting}
	if r.former != nil {
		c.Rules = append(c.Rules, " -m mark --mark "+r.former.String()+r.bit().Set())
	}
	c.Rules = append(c.Rules, r.Masquerade(r.bit(), " ! -o lo")...)
	return []xtables.Chain{c}
}

// tables are those with chains of ours, in the order in which they are to lose them: what rejects goes first.
func tables() []string { return []string{"filter", "mangle", "nat"} }

// jumps are what leads packets to our chains, in the order in which they are to stand.
func jumps() []xtables.Jump {
	to := xtables.NewJump
	fresh := []string{"-m", "conntrack", "--ctstate", "NEW"}
	const refused, marked = "service proxy: no virtual server", "service proxy: class of client"
	return []xtables.Jump{
		to("nat", "POSTROUTING", chainPostrouting, "service proxy: masquerade"),
		to("mangle", "POSTROUTING", chainUnmark, "service proxy: take marks off"),
		to("mangle", "INPUT", chainIn, marked, fresh...),
		to("mangle", "OUTPUT", chainOut, marked, fresh...),
		to("filter", "INPUT", chainInput, "service proxy: health checks and localhost"),
		to("filter", "FORWARD", chainForward, "service proxy: forwarded Service traffic"),
		to("filter", "INPUT", chainFilterIn, refused, fresh...),
		to("filter", "OUTPUT", chainClosed, refused, fresh...),
	}
}
