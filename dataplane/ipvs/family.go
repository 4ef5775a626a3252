package ipvs

import (
	"context"
	"errors"
	"math/bits"
	"net/netip"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// family is what an engine holds of one family, besides virtual servers.
type family struct {
	place place
	rules rules
	ports map[forwarding.PortID]*forwarding.ServicePort
	// left are addresses of Service ports that get nothing, and why; taken are routes that somebody else has.
	left  map[forwarding.PortID][]string
	taken []*routes.Failure
	// routesDue says that the kernel may hold other routes than are wanted.
	routesDue bool

	tables  map[string]*xtables.Table
	glance  *xtables.Glance
	order   *xtables.Order
	entries [kinds]*ledger[ipset.Entry, mark]
	// bit is the one by which the entries in the kernel ask for masquerading; nil before the first were written.
	bit    *xtables.MarkBit
	routes *ledger[netip.Prefix, routes.Route]
}

// mark is what the entry of a set gives a packet.
type mark struct{ mark, mask uint32 }

func newFamily(programs *xtables.Programs, settings *Settings) *family {
	f := &family{
		place:  place{ipv6: programs.IPv6, settings: settings, marks: newMarks()},
		rules:  rules{Programs: programs, settings: settings},
		ports:  map[forwarding.PortID]*forwarding.ServicePort{},
		left:   map[forwarding.PortID][]string{},
		tables: map[string]*xtables.Table{},
		glance: programs.NewGlance(tables()...), order: xtables.NewOrder(),
		routes: newLedger[netip.Prefix, routes.Route](),
	}
	for _, name := range tables() {
		f.tables[name] = xtables.NewTable(name, prefix)
	}
	for k := range f.entries {
		f.entries[k] = newLedger[ipset.Entry, mark]()
	}
	return f
}

// change takes changes of the forwarding table into the ledgers. What Service ports give up comes before what they take:
// an address may go from one to another.
func (f *family) change(changes []forwarding.Change, s *servers) {
	after := map[forwarding.PortID]*forwarding.ServicePort{}
	for _, c := range changes {
		for _, p := range []*forwarding.ServicePort{c.Old, c.New} {
			if p != nil && p.ID.IPv6 == f.place.ipv6 {
				after[p.ID] = c.New
			}
		}
	}
	for id := range after {
		if before := f.ports[id]; before != nil {
			f.retract(before, s)
			delete(f.ports, id)
		}
	}
	for id, p := range after {
		if p == nil {
			f.place.marks.release(id)
			continue
		}
		f.ports[id] = p
		f.claim(p, s)
	}
}

func (f *family) claim(p *forwarding.ServicePort, s *servers) {
	c := f.place.claims(p)
	for _, server := range c.servers {
		s.claim(server)
	}
	for _, e := range c.entries {
		key, value := split(e.Entry)
		f.entries[e.kind].claim(key, value)
	}
	for _, r := range c.routes {
		f.routes.claim(r.Prefix, r)
	}
	if len(c.left) > 0 {
		f.left[p.ID] = c.left
	}
}

func (f *family) retract(p *forwarding.ServicePort, s *servers) {
	c := f.place.claims(p)
	for _, server := range c.servers {
		s.retract(server.Key)
	}
	for _, e := range c.entries {
		key, _ := split(e.Entry)
		f.entries[e.kind].retract(key)
	}
	for _, r := range c.routes {
		f.routes.retract(r.Prefix)
	}
	delete(f.left, p.ID)
}

// split is what an entry is found by, and what it gives a packet.
func split(e ipset.Entry) (ipset.Entry, mark) {
	m := mark{e.Mark, e.Mask}
	e.Mark, e.Mask = 0, 0
	return e, m
}

// renderAll starts from nothing but the Service ports, as after a change of settings or of the node's addresses.
func (f *family) renderAll(own []netip.Addr, s *servers) {
	f.place.own = map[netip.Addr]bool{}
	f.place.nodePorts = nil
	for _, addr := range own {
		if addr.Is6() != f.place.ipv6 {
			continue
		}
		f.place.own[addr] = true
		if nodePorts := f.place.settings.NodePortAddresses; addresses.Usable(addr) && (nodePorts == nil || contains(nodePorts, addr)) {
			f.place.nodePorts = append(f.place.nodePorts, addr)
		}
	}
	for _, l := range f.entries {
		l.retractAll()
	}
	f.routes.retractAll()
	f.routesDue = true // also those of the networks of cluster IPs, which no Service port asks for
	clear(f.left)
	for _, p := range f.ports {
		f.claim(p, s)
	}
}

// verify reads what the kernel holds.
func (f *family) verify(ctx context.Context, sets *ipset.Kernel) (w xtables.Written, err error) {
	for k := range kinds {
		set := k.set(f.place.ipv6)
		if err := sets.Make(ctx, set); err != nil {
			return w, err
		}
		held, err := sets.List(ctx, set)
		if err != nil {
			return w, err
		}
		have := make(map[ipset.Entry]mark, len(held))
		for _, e := range held {
			key, value := split(e)
			have[key] = value
		}
		f.entries[k].found(have)
		f.learnBit(have)
	}
	f.rules.unmarks = f.rules.unmarks || f.rules.Offers(ctx, "mangle", " -m ipvs --ipvs -j RETURN")
	dumps, err := f.rules.Read(ctx)
	if err != nil {
		return w, err
	}
	for name, table := range f.tables {
		table.Found(dumps[name])
		table.DropAll()
	}
	moved := f.order.Moved(jumps(), dumps)
	if err := f.order.Restore(ctx, f.rules.Programs, moved); err != nil {
		return w, err
	}
	f.mindFormerBit()
	missing := xtables.Missing(jumps(), dumps)
	f.order.Placed(missing, dumps)
	var before xtables.Written
	if superseded := xtables.Superseded(prefix, jumps(), dumps); len(superseded) > 0 {
		if before, err = f.supersede(ctx, superseded, missing); err != nil {
			return before, err
		}
		missing = nil
	}
	w, err = f.writeRules(ctx, missing)
	w.Add(before)
	w.Jumps += len(moved)
	f.routesDue = true
	return w, err
}

// supersede takes packets from another layout of our rules to this one. What is left of it can be removed after that.
func (f *family) supersede(ctx context.Context, superseded, missing []xtables.Jump) (xtables.Written, error) {
	f.wantRules()
	w, err := f.glance.Around(func() (xtables.Written, error) {
		return f.rules.Supersede(ctx, superseded, missing, f.tables["nat"], f.tables["mangle"], f.tables["filter"])
	})
	for _, table := range f.tables {
		table.DropAll()
	}
	return w, err
}

// learnBit learns from entries in the kernel by which bit they ask for masquerading, where that is another than the settings
// name: an agent may have been stopped after it had written the rules, and before it had written them.
func (f *family) learnBit(have map[ipset.Entry]mark) {
	for _, m := range have {
		if wanted := uint32(1) << f.rules.bit(); m.mask != wanted && bits.OnesCount32(m.mask) == 1 {
			f.bit = new(xtables.MarkBit(bits.TrailingZeros32(m.mask)))
			return
		}
	}
}

// mindFormerBit has rules go by the bit of the entries in the kernel too.
func (f *family) mindFormerBit() {
	if f.rules.former = nil; f.bit != nil && *f.bit != f.rules.bit() {
		f.rules.former = f.bit
	}
}

// wantRules asks for every chain there is to be.
func (f *family) wantRules() {
	for name, chains := range map[string][]xtables.Chain{"filter": f.rules.filter(), "mangle": f.rules.mangle(), "nat": f.rules.nat()} {
		for _, c := range chains {
			f.tables[name].Want(c)
		}
	}
}

// writeRules writes the rules that differ, which is none unless settings changed.
func (f *family) writeRules(ctx context.Context, missing []xtables.Jump) (xtables.Written, error) {
	f.wantRules()
	return f.glance.Around(func() (xtables.Written, error) {
		return f.rules.Write(ctx, missing, f.tables["nat"], f.tables["mangle"], f.tables["filter"])
	})
}

func (f *family) ruleCount() int {
	n := 0
	for _, t := range f.tables {
		n += t.Rules()
	}
	return n
}

// write gives the kernel what differs in rules, sets and routes. Entries that lead to a virtual server come before those that
// say that there is none go, and the other way round.
//
// Where the bit changes that asks for masquerading, rules go by both until the last entry has the new one: a connection that
// is not masqueraded when it begins is not answered, and stays so.
func (f *family) write(ctx context.Context, sets *ipset.Kernel) (w Written, err error) {
	f.mindFormerBit()
	if w.Rules, err = f.writeRules(ctx, nil); err != nil {
		return w, err
	}
	var add, remove [kinds][]ipset.Entry
	for k, l := range f.entries {
		l.missing(func(key ipset.Entry, m mark) {
			key.Mark, key.Mask = m.mark, m.mask
			add[k] = append(add[k], key)
		})
		l.surplus(func(key ipset.Entry, _ mark) { remove[k] = append(remove[k], key) })
		w.Entries += len(add[k]) + len(remove[k])
	}
	for k := range kinds {
		if err := sets.Update(ctx, k.set(f.place.ipv6), add[k], nil); err != nil {
			return w, err
		}
	}
	if f.routesDue || len(f.routes.touched) > 0 {
		if w.Routes, err = f.writeRoutes(ctx); err != nil {
			return w, err
		}
	}
	for k := range kinds {
		if err := sets.Update(ctx, k.set(f.place.ipv6), nil, remove[k]); err != nil {
			return w, err
		}
		f.entries[k].settled()
	}
	f.bit = new(f.rules.bit())
	if f.rules.former != nil {
		f.rules.former = nil
		rules, err := f.writeRules(ctx, nil)
		w.Rules.Add(rules)
		return w, err
	}
	return w, nil
}

// wantedRoutes are those that Service ports ask for, and those of the networks of cluster IPs.
func (f *family) wantedRoutes() []routes.Route {
	wanted := make([]routes.Route, 0, len(f.routes.want))
	for _, w := range f.routes.want {
		wanted = append(wanted, w.value)
	}
	for _, cidr := range xtables.OfFamily(f.place.settings.ServiceCIDRs, f.place.ipv6) {
		wanted = append(wanted, f.place.localRoute(cidr))
	}
	return wanted
}

func (f *family) writeRoutes(ctx context.Context) (int, error) {
	written, err := routes.Sync(ctx, f.place.ipv6, f.wantedRoutes())
	f.taken = nil
	for _, failure := range failures(err) {
		taken, is := errors.AsType[*routes.Failure](failure)
		if !is || !errors.Is(failure, routes.ErrTaken) {
			return written, err
		}
		f.taken = append(f.taken, taken)
	}
	f.routes.settled()
	f.routesDue = false
	return written, nil
}

// failures are the errors that one error joins.
func failures(err error) []error {
	if several, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		return several.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}
