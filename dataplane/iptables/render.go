package iptables

import (
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// renderer turns Service ports into rules. It is pure.
type renderer struct {
	*xtables.Programs
	settings Settings
	// bare leaves comments out.
	bare bool
}

const (
	// line is how many backends are tried one after the other. Above it they form a tree.
	line = 16
	// fanOut is the number of branches of each node of such a tree, and the most backends that its leaves try in line.
	fanOut = 8
	// maxDepth keeps the names of the chains of such a tree short enough; 8^5 leaves are enough for any Service.
	maxDepth = 5
)

// needsChain says whether a pool has a chain of its own. A single backend does without, unless clients that come now
// must find it again when there are more, or its hairpins have to be told from other connections.
func (r *renderer) needsChain(p *forwarding.ServicePort, pool forwarding.Pool) bool {
	n := len(p.Backends(pool))
	return n > 1 || n == 1 && (p.AffinitySeconds > 0 || !r.MatchesHairpins)
}

func poolChain(p *forwarding.ServicePort, pool forwarding.Pool) string {
	if pool == forwarding.Local {
		return prefix + "L-" + portDigest(p.ID)
	}
	return prefix + "C-" + portDigest(p.ID)
}

func (r *renderer) markMasquerade() string { return xtables.MarkBit(r.settings.MarkBit).Set() }

// toPool sends what a match lets through to a pool.
func (r *renderer) toPool(match string, p *forwarding.ServicePort, pool forwarding.Pool) []string {
	backends := p.Backends(pool)
	switch {
	case len(backends) == 0:
		return nil
	case r.needsChain(p, pool):
		return []string{match + " -g " + poolChain(p, pool)}
	}
	return []string{match + dnat(backends[0])}
}

// hairpins marks packets that may come back to the backend that sent them, where the kernel has no match for all of
// them. A backend that reaches another backend of its own Service is then masqueraded too.
func (r *renderer) hairpins(backends []netip.AddrPort) []string {
	if r.MatchesHairpins {
		return nil
	}
	var rules []string
	for _, b := range backends {
		rules = append(rules, fmt.Sprintf(" -s %s/%d%s", b.Addr(), b.Addr().BitLen(), r.markMasquerade()))
	}
	return rules
}

// leads says whether a frontend leads anybody to a backend.
func leads(f *forwarding.Frontend) bool { return f.Routes != (&forwarding.Frontend{}).Routes }

// byClass is a frontend whose routes need a chain that treats classes of clients differently or that a check of the
// source can go on to; nil when the Service port has none.
func byClass(p *forwarding.ServicePort) *forwarding.Frontend {
	for i := range p.Frontends {
		f := &p.Frontends[i]
		if f.Kind != forwarding.ClusterIP && leads(f) && (!f.Uniform() || len(f.Sources) > 0) {
			return f
		}
	}
	return nil
}

// stands says whether frontend renders anything. It is asked of all Services when an agent starts.
func (r *renderer) stands(p *forwarding.ServicePort, f *forwarding.Frontend) bool {
	switch {
	case f.Otherwise == forwarding.Ignore:
		return r.takesMarkBack(f)
	case !leads(f):
		return false
	}
	return len(f.Sources) > 0 || r.usesClasses(p, f) || len(p.Backends(f.Routes[forwarding.Remote].Pool)) > 0
}

// frontend renders what stands in the dispatch tree of table nat.
func (r *renderer) frontend(p *forwarding.ServicePort, f *forwarding.Frontend, match string) []string {
	switch {
	case !r.stands(p, f):
		return nil
	case f.Otherwise == forwarding.Ignore:
		return []string{fmt.Sprintf("%s -j MARK --set-xmark 0x0/%#x", match, uint32(1)<<r.settings.MarkBit)}
	case len(f.Sources) > 0:
		return []string{match + " -g " + prefix + "F-" + portDigest(p.ID)}
	case r.usesClasses(p, f):
		return []string{match + " -g " + prefix + "X-" + portDigest(p.ID)}
	}
	route := f.Routes[forwarding.Remote]
	forward := r.toPool(match, p, route.Pool)
	switch {
	case f.Kind == forwarding.ClusterIP && r.marksOffCluster() && !r.settings.inServiceCIDR(f.Key.Addr):
		return append([]string{match + " -j " + chainOffCluster}, forward...)
	case f.Kind != forwarding.ClusterIP && route.Masquerade:
		return append([]string{match + r.markMasquerade()}, forward...)
	}
	return forward
}

// usesClasses says whether a frontend goes on to the chain that treats classes of clients differently.
func (r *renderer) usesClasses(p *forwarding.ServicePort, f *forwarding.Frontend) bool {
	classes := byClass(p)
	return classes != nil && f.Kind != forwarding.ClusterIP && f.Routes == classes.Routes
}

// takesMarkBack says whether a frontend that is somebody else's has to lose the mark that every packet to the cluster IP range got.
func (r *renderer) takesMarkBack(f *forwarding.Frontend) bool {
	return r.marksOffCluster() && r.settings.inServiceCIDR(f.Key.Addr)
}

// closed renders what stands in the dispatch trees of table filter: what becomes of packets that no rule of table nat
// has sent to a backend; nothing where that is not for the tree to say. inRange says that the tree rejects what it does not list.
func (r *renderer) closed(f *forwarding.Frontend, inRange bool) string {
	switch {
	case f.Otherwise == forwarding.Ignore && inRange:
		return " -j RETURN"
	case f.Otherwise == forwarding.Ignore, f.Open():
		return ""
	case f.Otherwise == forwarding.Drop:
		return " -j DROP"
	case inRange:
		return ""
	}
	return r.Refuse(f.Key.Protocol)
}

// chains renders the chains that belong to one Service port.
func (r *renderer) chains(p *forwarding.ServicePort) []xtables.Chain {
	var used [forwarding.Local + 1]bool
	var sources *forwarding.Frontend
	for i := range p.Frontends {
		f := &p.Frontends[i]
		for _, route := range f.Routes {
			used[route.Pool] = true
		}
		if leads(f) && len(f.Sources) > 0 {
			sources = f
		}
	}
	var chains []xtables.Chain
	for _, pool := range []forwarding.Pool{forwarding.Cluster, forwarding.Local} {
		if used[pool] && r.needsChain(p, pool) {
			chains = append(chains, r.pool(p, pool)...)
		}
	}
	if classes := byClass(p); classes != nil {
		chains = append(chains, r.classes(p, classes))
	}
	if sources != nil {
		chains = append(chains, r.sources(p, sources))
	}
	return chains
}

// classes renders the chain that treats clients by their class: pods, this node, everyone else.
func (r *renderer) classes(p *forwarding.ServicePort, f *forwarding.Frontend) xtables.Chain {
	anyPacket := " -p " + p.ID.Protocol.String()
	matches := [...][]string{
		forwarding.Host:   {anyPacket + " -m addrtype --src-type LOCAL"},
		forwarding.Remote: {anyPacket},
	}
	for _, pod := range r.settings.isPod(r.IPv6) {
		matches[forwarding.Pod] = append(matches[forwarding.Pod], pod+anyPacket)
	}
	c := xtables.Chain{Name: prefix + "X-" + portDigest(p.ID)}
	for class, route := range f.Routes {
		differs := func(later forwarding.Route) bool { return later != route }
		if after := f.Routes[class+1:]; len(after) > 0 && !slices.ContainsFunc(after, differs) {
			continue // what follows does the same
		}
		for _, match := range matches[class] {
			switch {
			case route.Pool != forwarding.Nowhere:
				if route.Masquerade {
					c.Rules = append(c.Rules, match+r.markMasquerade())
				}
				c.Rules = append(c.Rules, r.toPool(match, p, route.Pool)...)
			case match != anyPacket:
				c.Rules = append(c.Rules, match+" -j RETURN")
			}
		}
	}
	return c
}

func (r *renderer) sources(p *forwarding.ServicePort, f *forwarding.Frontend) xtables.Chain {
	id := portDigest(p.ID)
	c := xtables.Chain{Name: prefix + "F-" + id}
	for _, source := range f.Sources {
		c.Rules = append(c.Rules, fmt.Sprintf(" -s %s -g %sX-%s", source, prefix, id))
	}
	return c
}

// pool renders the chain, or the tree of chains, that spreads connections evenly over backends.
func (r *renderer) pool(p *forwarding.ServicePort, pool forwarding.Pool) []xtables.Chain {
	backends := p.Backends(pool)
	root := xtables.Chain{Name: poolChain(p, pool), Rules: r.hairpins(backends)}
	// The target DNAT takes a port only where the rule names the protocol.
	protocol := " -p " + p.ID.Protocol.String()
	choose := dnat
	var below []xtables.Chain
	if p.AffinitySeconds > 0 {
		for _, b := range backends {
			root.Rules = append(root.Rules, protocol+r.recall(p, b))
			below = append(below, r.remember(p, b)...)
		}
		choose = func(b netip.AddrPort) string { return r.chooseAndRemember(p, b) }
	}
	spread := func(b netip.AddrPort, outOf int) string { return protocol + share(1, outOf) + choose(b) }
	if len(backends) <= line {
		for i, b := range backends {
			root.Rules = append(root.Rules, spread(b, len(backends)-i))
		}
		return append(below, root)
	}
	return append(below, branch(root, backends, spread, 0)...)
}

// branch spreads backends over branches by a hash, each taken as often as it has backends, so that every backend is as
// likely as every other. A backend that comes or goes changes the chains on its path and no others.
func branch(c xtables.Chain, backends []netip.AddrPort, spread func(b netip.AddrPort, outOf int) string, depth int) []xtables.Chain {
	var branches [fanOut][]netip.AddrPort
	for _, b := range backends {
		i := hash(b) >> (3 * depth) % fanOut
		branches[i] = append(branches[i], b)
	}
	left := len(backends)
	var below []xtables.Chain
	for i, members := range branches {
		switch {
		case len(members) == 0:
			continue
		case len(members) == 1:
			c.Rules = append(c.Rules, spread(members[0], left))
		default:
			sub := xtables.Chain{Name: fmt.Sprintf("%s%d", c.Name, i)}
			if depth == 0 {
				sub.Name = fmt.Sprintf("%s-%d", c.Name, i)
			}
			c.Rules = append(c.Rules, share(len(members), left)+" -g "+sub.Name)
			if len(members) <= fanOut || depth == maxDepth-1 {
				for j, b := range members {
					sub.Rules = append(sub.Rules, spread(b, len(members)-j))
				}
				below = append(below, sub)
			} else {
				below = append(below, branch(sub, members, spread, depth+1)...)
			}
		}
		left -= len(members)
	}
	return append([]xtables.Chain{c}, below...)
}

func hash(b netip.AddrPort) uint32 {
	h := fnv.New32a()
	raw, _ := b.MarshalBinary() // never fails: encoding/binary of an address that was parsed
	_, _ = h.Write(raw)
	// The low bits of FNV of addresses that differ in one byte are not even; fold the high ones in.
	sum := h.Sum32()
	return sum ^ sum>>15
}

// share matches n packets out of total at random, and all of them when there is nothing left to share with. The kernel
// keeps a probability as a fraction of 2^31 (xt_statistic.h), and iptables-save prints that fraction.
func share(n, total int) string {
	if n >= total {
		return ""
	}
	const one = 1 << 31
	fraction := math.Round(float64(n) / float64(total) * one)
	return fmt.Sprintf(" -m statistic --mode random --probability %.11f", fraction/one)
}
