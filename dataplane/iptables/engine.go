package iptables

import (
	"context"
	"errors"
	"fmt"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables/dispatch"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Engine makes the kernel match a forwarding table. It is not safe for concurrent use.
type Engine struct {
	families []*engine
}

// New returns an engine for an empty forwarding table that writes with the given tools. The kernel is neither read nor
// written before the first Apply or Verify.
func New(t *xtables.Tools, settings Settings) *Engine {
	e := &Engine{}
	for _, f := range t.Families {
		e.families = append(e.families, newEngine(f, settings))
	}
	return e
}

// Apply writes what changed in the forwarding table. After an error the kernel holds what it held before, at worst in
// one of its tables what it is to hold; the next call compares and writes everything.
func (e *Engine) Apply(ctx context.Context, changes []forwarding.Change) (xtables.Written, error) {
	return e.each(func(f *engine) (xtables.Written, error) {
		for _, c := range changes {
			f.note(c)
		}
		switch {
		case f.stale: // then everything is rendered
			return f.verify(ctx, nil)
		case f.render.bare != f.bare():
			f.renderAll()
		}
		return f.write(ctx, nil)
	})
}

// Configure changes the settings. It takes effect with the next Apply, which writes the chains that differ.
func (e *Engine) Configure(settings Settings) {
	for _, f := range e.families {
		if !f.render.settings.equal(&settings) {
			f.render.settings = settings
			f.renderAll()
		}
	}
}

// OpenHealthPorts lets connections in to the given node ports, at which load balancers ask for local endpoints, and to
// no others. It takes effect with the next Apply.
func (e *Engine) OpenHealthPorts(ports []uint16) {
	for _, f := range e.families {
		f.healthPorts = ports
	}
}

// Verify compares everything, or only some places, with the kernel and writes what differs.
func (e *Engine) Verify(ctx context.Context, only ...xtables.Place) (xtables.Written, error) {
	return e.each(func(f *engine) (xtables.Written, error) {
		if f.stale {
			return f.verify(ctx, nil)
		}
		return f.verify(ctx, only)
	})
}

// Remove removes every jump, chain and set that this package ever made with these tools, and nothing else. Connections that
// were translated go on as they are.
func (e *Engine) Remove(ctx context.Context) error {
	var errs []error
	for _, f := range e.families {
		f.stale = true
		errs = append(errs, f.tools.Remove(ctx, prefix, tables()...), f.sets.clear())
	}
	return errors.Join(errs...)
}

func (e *Engine) each(do func(*engine) (xtables.Written, error)) (xtables.Written, error) {
	var all xtables.Written
	var errs []error
	for _, f := range e.families {
		w, err := do(f)
		all.Add(w)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// Rules is the number of rules that the kernel holds of ours.
func (e *Engine) Rules() int {
	n := 0
	for _, f := range e.families {
		n += f.nat.Rules() + f.filter.Rules()
	}
	return n
}

// engine is an engine for one family.
type engine struct {
	tools  *xtables.Programs
	render renderer
	// ports are those in the forwarding table.
	ports map[*forwarding.ServicePort]struct{}

	// The tree of table nat and those of table filter, which list what the former has sent nowhere.
	addresses, nodePorts, inRange, closed, closedPorts *tree

	// healthPorts are the node ports at which load balancers ask for local endpoints.
	healthPorts []uint16

	nat, filter *xtables.Table
	glance      *xtables.Glance
	order       *xtables.Order
	sets        *sets
	// stale says that what the kernel holds is not known.
	stale bool
}

// tree is a dispatch tree whose values are rendered when its chains are.
type tree struct {
	*dispatch.Tree[frontend]
	name           string
	addressNibbles int
	// stands says whether a frontend has rules in the tree, and rules are those for packets that match.
	stands func(f frontend) bool
	rules  func(f frontend, match string) []string
	// otherwise ends every chain of the tree.
	otherwise []string
}

// frontend is a frontend and the Service port that it leads to.
type frontend struct {
	port *forwarding.ServicePort
	*forwarding.Frontend
}

func newEngine(t *xtables.Programs, settings Settings) *engine {
	e := &engine{
		tools:  t,
		render: renderer{Programs: t, settings: settings},
		ports:  map[*forwarding.ServicePort]struct{}{},
		nat:    xtables.NewTable("nat", prefix), filter: xtables.NewTable("filter", prefix),
		glance: t.NewGlance("nat", "filter"), order: xtables.NewOrder(), sets: newSets(t.IPv6),
		stale: true,
	}
	nibbles := dispatch.AddressNibbles(t.IPv6)
	forward := func(name string, nibbles int) *tree {
		return &tree{
			Tree: dispatch.New[frontend](), name: name, addressNibbles: nibbles,
			stands: func(f frontend) bool { return e.render.stands(f.port, f.Frontend) },
			rules:  func(f frontend, match string) []string { return e.render.frontend(f.port, f.Frontend, match) },
		}
	}
	closed := func(name string, nibbles int, inRange bool, otherwise []string) *tree {
		return &tree{
			Tree: dispatch.New[frontend](), name: name, addressNibbles: nibbles, otherwise: otherwise,
			stands: func(f frontend) bool { return e.render.closed(f.Frontend, inRange) != "" },
			rules: func(f frontend, match string) []string {
				return []string{match + e.render.closed(f.Frontend, inRange)}
			},
		}
	}
	e.addresses, e.nodePorts = forward(chainAddresses, nibbles), forward(chainNodePorts, 0)
	e.inRange = closed(chainRange, nibbles, true, t.RefuseAll())
	e.closed, e.closedPorts = closed(chainClosed, nibbles, false, nil), closed(chainClosedPorts, 0, false, nil)
	return e
}

func (e *engine) natTrees() []*tree    { return []*tree{e.addresses, e.nodePorts} }
func (e *engine) filterTrees() []*tree { return []*tree{e.inRange, e.closed, e.closedPorts} }

// note takes a change of the forwarding table in. While what the kernel holds is not known that is all there is to do.
func (e *engine) note(c forwarding.Change) {
	if c.Old != nil && c.Old.ID.IPv6 == e.render.IPv6 {
		delete(e.ports, c.Old)
		if !e.stale {
			e.unlist(c.Old)
		}
	}
	if c.New != nil && c.New.ID.IPv6 == e.render.IPv6 {
		e.ports[c.New] = struct{}{}
		if !e.stale {
			e.list(c.New)
		}
	}
}

// unlist takes the frontends of a Service port out of the trees, and asks for its chains to go.
func (e *engine) unlist(p *forwarding.ServicePort) {
	for i := range p.Frontends {
		key := dispatch.KeyOf(p.Frontends[i].Key)
		for _, t := range e.treesOf(&p.Frontends[i]) {
			// Another Service port may have taken the address over already.
			if holder, held := t.Get(key); held && holder.port.ID == p.ID {
				t.Delete(key)
			}
		}
	}
	for _, ch := range e.render.chains(p) {
		e.nat.Drop(ch.Name)
	}
	e.sets.drop(e.render.clientSets(p))
}

// list puts the frontends of a Service port into the trees, and asks for its chains.
func (e *engine) list(p *forwarding.ServicePort) {
	for _, ch := range e.render.chains(p) {
		e.nat.Want(ch)
	}
	e.sets.want(e.render.clientSets(p))
	for i := range p.Frontends {
		f := frontend{p, &p.Frontends[i]}
		for _, t := range e.treesOf(f.Frontend) {
			if t.stands(f) {
				t.Set(dispatch.KeyOf(f.Key), f)
			}
		}
	}
}

// treesOf are the trees, of both tables, in which a frontend may stand.
func (e *engine) treesOf(f *forwarding.Frontend) []*tree {
	switch {
	case !f.Key.Addr.IsValid():
		return []*tree{e.nodePorts, e.closedPorts}
	case e.render.settings.inServiceCIDR(f.Key.Addr):
		return []*tree{e.addresses, e.inRange}
	}
	return []*tree{e.addresses, e.closed}
}

// bare says whether rules are to be without comments. Where the kernel copies tables, comments are more than half of what it
// copies; kube-proxy does without them in clusters of more than 1,000 endpoints too. They return when half are left.
func (e *engine) bare() bool {
	const most, again = 1_000, 500
	n := len(e.ports)
	return e.tools.CopiesTables && (n > most || n > again && e.render.bare)
}

// renderAll starts from nothing but the Service ports, as after a change of settings. Whatever the kernel holds that is
// not asked for again is to go.
func (e *engine) renderAll() {
	e.render.bare = e.bare()
	fresh := newEngine(e.tools, e.render.settings)
	e.addresses.Tree, e.nodePorts.Tree = fresh.addresses.Tree, fresh.nodePorts.Tree
	e.inRange.Tree, e.closed.Tree, e.closedPorts.Tree = fresh.inRange.Tree, fresh.closed.Tree, fresh.closedPorts.Tree
	for _, t := range []*xtables.Table{e.nat, e.filter} {
		t.Forget()
		t.DropAll()
	}
	e.sets.dropAll()
	for p := range e.ports {
		e.list(p)
	}
}

// flush asks for the chains of the trees that changed, and for the fixed ones.
func (e *engine) flush() {
	for _, t := range e.natTrees() {
		e.render.flush(t, e.nat)
	}
	for _, t := range e.filterTrees() {
		e.render.flush(t, e.filter)
	}
	for _, c := range e.render.fixedNAT(e.nodePorts.Len() > 0) {
		e.nat.Want(c)
	}
	for _, c := range e.render.fixedFilter(e.closed.Len() > 0, e.closedPorts.Len() > 0, e.healthPorts) {
		e.filter.Want(c)
	}
}

func (r *renderer) flush(t *tree, s *xtables.Table) {
	t.Dirty(func(prefix dispatch.Key, dispatched *dispatch.Chain[frontend]) {
		c := xtables.Chain{Name: treeChain(t.name, prefix, t.addressNibbles)}
		if dispatched == nil {
			s.Drop(c.Name)
			return
		}
		for _, entry := range dispatched.Entries {
			if entry.Value == nil {
				c.Rules = append(c.Rules, r.match(entry.Key, t.addressNibbles, "")+" -g "+treeChain(t.name, entry.Key, t.addressNibbles))
				continue
			}
			comment := ""
			if !r.bare {
				comment = fmt.Sprintf("%s %s", entry.Value.port.ID, entry.Value.Kind)
			}
			c.Rules = append(c.Rules, t.rules(*entry.Value, r.match(entry.Key, t.addressNibbles, comment))...)
		}
		c.Rules = append(c.Rules, t.otherwise...)
		s.Want(c)
	})
}

// verify reads the kernel, or only some places, and writes what differs.
func (e *engine) verify(ctx context.Context, only []xtables.Place) (xtables.Written, error) {
	e.stale = true
	read, err := e.tools.ReadPlaces(ctx, only)
	if err != nil {
		return xtables.Written{}, err
	}
	e.nat.Read(read)
	e.filter.Read(read)
	tables, jumps := read.Tables, read.Jumps(jumps())
	if e.render.MatchesSets && len(only) == 0 {
		if err := e.sets.found(); err != nil {
			return xtables.Written{}, err
		}
	}
	e.renderAll()
	moved := e.order.Moved(jumps, tables)
	if err := e.order.Restore(ctx, e.tools, moved); err != nil {
		return xtables.Written{}, err
	}
	missing := xtables.Missing(jumps, tables)
	e.order.Placed(missing, tables)
	var before xtables.Written
	if superseded := xtables.Superseded(prefix, jumps, tables); len(superseded) > 0 {
		if before, err = e.supersede(ctx, superseded, missing); err != nil {
			return before, err
		}
		missing = nil
	}
	e.stale = false
	w, err := e.write(ctx, missing)
	w.Add(before)
	w.Jumps += len(moved)
	return w, err
}

// supersede takes packets from another layout of our rules to this one. What is left of it can be removed after that.
func (e *engine) supersede(ctx context.Context, superseded, missing []xtables.Jump) (xtables.Written, error) {
	e.flush()
	if err := e.sets.create(); err != nil {
		return xtables.Written{}, err
	}
	w, err := e.glance.Around(func() (xtables.Written, error) {
		return e.tools.Supersede(ctx, superseded, missing, e.nat, e.filter)
	})
	e.renderAll()
	return w, err
}

// write gives the kernel what is pending, and jumps that are missing. Table nat goes first: what it sends to a backend,
// filter never sees under the address of the Service.
func (e *engine) write(ctx context.Context, missing []xtables.Jump) (w xtables.Written, err error) {
	defer func() { e.stale = e.stale || err != nil }()
	e.flush()
	if err := e.sets.create(); err != nil {
		return w, err
	}
	if w, err = e.glance.Around(func() (xtables.Written, error) { return e.tools.Write(ctx, missing, e.nat, e.filter) }); err != nil {
		return w, err
	}
	return w, e.sets.remove(e.tools.Settle)
}
