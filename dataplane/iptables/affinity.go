package iptables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Session affinity: each backend has a set of the clients that it served lately. A client that is in one goes there
// again, and its time starts anew. The sets are kept by the kernel, so that clients find their backends also after the
// agent was restarted.
//
// Where the kernel has no sets, lists of the match recent do the same; such a list remembers 100 clients by default
// (parameter ip_list_tot of xt_recent) and then forgets those that came longest ago.

func affinityName(p *forwarding.ServicePort, b netip.AddrPort) string {
	return digest(portDigest(p.ID) + b.String())
}

// setPrefix starts the names of the sets of a family.
func setPrefix(ipv6 bool) string {
	if ipv6 {
		return prefix + "6-"
	}
	return prefix + "4-"
}

func backendChain(p *forwarding.ServicePort, b netip.AddrPort) string {
	return prefix + "E-" + affinityName(p, b)
}

func (r *renderer) clients(p *forwarding.ServicePort, b netip.AddrPort) string {
	return setPrefix(r.IPv6) + affinityName(p, b)
}

// recall sends clients back to a backend that served them.
func (r *renderer) recall(p *forwarding.ServicePort, b netip.AddrPort) string {
	if r.MatchesSets {
		return fmt.Sprintf(" -m set --match-set %s src -g %s", r.clients(p, b), backendChain(p, b))
	}
	return fmt.Sprintf(" -m recent --update --seconds %d --reap%s%s", p.AffinitySeconds, r.recentList(p, b), dnat(b))
}

// chooseAndRemember sends a client to a backend and notes that it did.
func (r *renderer) chooseAndRemember(p *forwarding.ServicePort, b netip.AddrPort) string {
	if r.MatchesSets {
		return " -g " + backendChain(p, b)
	}
	return " -m recent --set" + r.recentList(p, b) + dnat(b)
}

// remember is the chain that notes a client and sends it to a backend, where that takes a chain.
func (r *renderer) remember(p *forwarding.ServicePort, b netip.AddrPort) []xtables.Chain {
	if !r.MatchesSets {
		return nil
	}
	protocol := " -p " + p.ID.Protocol.String()
	return []xtables.Chain{{Name: backendChain(p, b), Rules: []string{
		fmt.Sprintf("%s -j SET --add-set %s src --exist --timeout %d", protocol, r.clients(p, b), p.AffinitySeconds),
		protocol + dnat(b),
	}}}
}

func (r *renderer) recentList(p *forwarding.ServicePort, b netip.AddrPort) string {
	mask := "255.255.255.255"
	if r.IPv6 {
		mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return fmt.Sprintf(" --name %s --mask %s --rsource", prefix+affinityName(p, b), mask)
}

// clientSets are the sets that the rules of a Service port refer to, and for how many seconds they remember.
func (r *renderer) clientSets(p *forwarding.ServicePort) map[string]uint32 {
	if !r.MatchesSets || p.AffinitySeconds == 0 {
		return nil
	}
	sets := map[string]uint32{}
	for _, pool := range []forwarding.Pool{forwarding.Cluster, forwarding.Local} {
		for _, b := range p.Backends(pool) {
			sets[r.clients(p, b)] = p.AffinitySeconds
		}
	}
	return sets
}

// sets are the sets of one family: what rules need, and what the kernel has. A set must be there before the first rule
// that refers to it, and can go only after the last.
type sets struct {
	ipv6   bool
	wanted map[string]uint32
	held   map[string]bool
	// missing and surplus are the differences between the two.
	missing, surplus map[string]bool
}

func newSets(ipv6 bool) *sets {
	return &sets{ipv6: ipv6, wanted: map[string]uint32{}, held: map[string]bool{}, missing: map[string]bool{}, surplus: map[string]bool{}}
}

// found tells which sets of ours the kernel holds.
func (s *sets) found() error {
	names, err := ipset.Names(setPrefix(s.ipv6))
	if err != nil {
		return err
	}
	clear(s.held)
	clear(s.missing)
	clear(s.surplus)
	for _, name := range names {
		s.held[name] = true
		s.surplus[name] = true
	}
	for name := range s.wanted {
		delete(s.surplus, name)
		if !s.held[name] {
			s.missing[name] = true
		}
	}
	return nil
}

func (s *sets) want(sets map[string]uint32) {
	for name, seconds := range sets {
		s.wanted[name] = seconds
		delete(s.surplus, name)
		if !s.held[name] {
			s.missing[name] = true
		}
	}
}

func (s *sets) drop(sets map[string]uint32) {
	for name := range sets {
		delete(s.wanted, name)
		delete(s.missing, name)
		if s.held[name] {
			s.surplus[name] = true
		}
	}
}

// dropAll wants none of them.
func (s *sets) dropAll() {
	s.drop(maps.Clone(s.wanted))
}

// create makes what is missing, before rules are written.
func (s *sets) create() error {
	for name := range s.missing {
		if err := ipset.Clients(name, s.ipv6, s.wanted[name]); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		s.held[name] = true
		delete(s.missing, name)
	}
	return nil
}

// remove removes what no rule refers to any more, after rules were written. They settle first.
func (s *sets) remove(settle func() error) error {
	if len(s.surplus) == 0 {
		return nil
	}
	if err := settle(); err != nil {
		return err
	}
	return s.destroy()
}

// clear removes every set of ours; no rule may refer to one any more.
func (s *sets) clear() error {
	clear(s.wanted)
	if err := s.found(); err != nil {
		return err
	}
	return s.destroy()
}

func (s *sets) destroy() error {
	for name := range s.surplus {
		if err := ipset.Destroy(name); err != nil {
			return err
		}
		delete(s.held, name)
		delete(s.surplus, name)
	}
	return nil
}
