package routes

import (
	"fmt"
	"net/netip"
	"slices"
)

// Lines are the routes that Sync makes for what is wanted, as ip(8) takes them.
func Lines(wanted []Route) []string {
	var lines []string
	for _, r := range around(wanted) {
		line := fmt.Sprintf("route add local %s dev lo table local proto %d", r.Prefix, Protocol)
		if r.Source.IsValid() {
			line += fmt.Sprintf(" src %s", r.Source)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// around are local routes that together do what is wanted: those that leave addresses alone become gaps in wider ones.
func around(wanted []Route) []Route {
	var gaps []netip.Prefix
	for _, r := range wanted {
		if r.Type == Throw {
			gaps = append(gaps, r.Prefix.Masked())
		}
	}
	routes := make([]Route, 0, len(wanted))
	for _, r := range wanted {
		if r.Type != Local {
			continue
		}
		for _, p := range without(r.Prefix.Masked(), gaps) {
			routes = append(routes, Route{Prefix: p, Type: Local, Source: r.Source})
		}
	}
	return routes
}

// without is what remains of a network beside gaps in it, in as few networks as possible. A gap that is wider means
// nothing.
func without(p netip.Prefix, gaps []netip.Prefix) []netip.Prefix {
	var inside []netip.Prefix
	for _, gap := range gaps {
		switch {
		case gap == p:
			return nil
		case gap.Bits() > p.Bits() && p.Contains(gap.Addr()):
			inside = append(inside, gap)
		}
	}
	if len(inside) == 0 {
		return []netip.Prefix{p}
	}
	lower, upper := halves(p)
	return append(without(lower, inside), without(upper, inside)...)
}

// halves are the two networks that a network consists of.
func halves(p netip.Prefix) (lower, upper netip.Prefix) {
	addr := p.Addr().AsSlice()
	addr[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	second, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(second, p.Bits()+1)
}
