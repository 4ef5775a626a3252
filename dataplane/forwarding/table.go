package forwarding

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Change is one Service port that is to be forwarded differently: New instead of Old. Either may be nil. Old is what an earlier
// change had as New, the same pointer.
type Change struct {
	Old, New *ServicePort
}

// Dispute is an address that several Services claim. The holder has it; the others wait, next in line first.
type Dispute struct {
	Key     Key
	Holder  PortID
	Waiting []PortID
}

// Table is the forwarding table of a node: every Service port with the frontends that it holds.
//
// Where two Services claim one address, port and protocol, the one that holds it keeps it, so that nothing that works is
// broken; among those that wait, and on a fresh start, the older Service and then the lower namespace/name is first.
// On a fresh start the caller must therefore feed Services in the order of Before.
type Table struct {
	services map[types.NamespacedName]*service
	holders  map[Key]*claim
	// waiting has the claims that lost; nearly always empty.
	waiting map[Key][]*claim
	// ports is how many Service ports there are.
	ports int
}

// service is a Service as it was last given to Update.
type service struct {
	created int64
	claims  []*claim
}

// claim is a Service port: what it claims, and what it has of that. It stays the same while the Service has the port.
type claim struct {
	of *service
	// wanted is what Update was given last, nil when there is no such port any more, and held is that with the frontends that it
	// holds, nil before it was told of.
	wanted, held *ServicePort
}

func (c *claim) id() PortID {
	if c.wanted != nil {
		return c.wanted.ID
	}
	return c.held.ID
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{services: map[types.NamespacedName]*service{}, holders: map[Key]*claim{}, waiting: map[Key][]*claim{}}
}

// Before says whether one Service comes before another where both claim an address: the older, then the lower
// namespace/name. It is a comparison as package slices wants it.
func Before(aCreated int64, a types.NamespacedName, bCreated int64, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(aCreated, bCreated), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Update gives the table all ports of one Service, none when it is gone, and returns what changed. That may touch
// other Services, which get an address that this one gave up.
func (t *Table) Update(name types.NamespacedName, created int64, ports []*ServicePort) []Change {
	s := t.services[name]
	if s == nil {
		if len(ports) == 0 {
			return nil
		}
		s = &service{}
		t.services[name] = s
	}
	s.created = created
	released := t.release(s, ports)
	s.want(ports)
	for _, c := range s.claims {
		if c.wanted != nil {
			for i := range c.wanted.Frontends {
				t.claim(c.wanted.Frontends[i].Key, c)
			}
		}
	}
	touched := slices.Clone(s.claims)
	for _, key := range released {
		if heir := t.inherit(key); heir != nil && !slices.Contains(touched, heir) {
			touched = append(touched, heir)
		}
	}
	changes := t.settle(touched)
	s.claims = slices.DeleteFunc(s.claims, func(c *claim) bool { return c.wanted == nil })
	if len(s.claims) == 0 {
		delete(t.services, name)
	}
	return changes
}

// want notes which ports a Service has now.
func (s *service) want(ports []*ServicePort) {
	for _, c := range s.claims {
		c.wanted = nil
	}
	for _, p := range ports {
		at := slices.IndexFunc(s.claims, func(c *claim) bool { return c.id() == p.ID })
		if at < 0 {
			at = len(s.claims)
			s.claims = append(s.claims, &claim{of: s})
		}
		s.claims[at].wanted = p
	}
}

// release gives up the keys of a Service that its new ports no longer claim, and returns those that it held.
func (t *Table) release(s *service, ports []*ServicePort) []Key {
	if len(s.claims) == 0 {
		return nil
	}
	claims := map[Key]PortID{}
	for _, p := range ports {
		for i := range p.Frontends {
			claims[p.Frontends[i].Key] = p.ID
		}
	}
	var released []Key
	for _, c := range s.claims {
		for i := range c.wanted.Frontends {
			key := c.wanted.Frontends[i].Key
			if id, still := claims[key]; still && id == c.wanted.ID {
				continue
			}
			if t.holders[key] == c {
				delete(t.holders, key)
				released = append(released, key)
			} else {
				t.stopWaiting(key, c)
			}
		}
	}
	return released
}

func (t *Table) claim(key Key, c *claim) {
	holder := t.holders[key]
	switch {
	case holder == nil:
		t.holders[key] = c
		t.stopWaiting(key, c) // it may have waited for another port of its own Service
	case holder != c && !slices.Contains(t.waiting[key], c):
		t.waiting[key] = append(t.waiting[key], c)
		slices.SortFunc(t.waiting[key], order)
	}
}

func (t *Table) stopWaiting(key Key, c *claim) {
	t.waiting[key] = slices.DeleteFunc(t.waiting[key], func(waiting *claim) bool { return waiting == c })
	if len(t.waiting[key]) == 0 {
		delete(t.waiting, key)
	}
}

// inherit hands a released key to the first who waits for it; nil when nobody does.
func (t *Table) inherit(key Key) *claim {
	queue := t.waiting[key]
	if t.holders[key] != nil || len(queue) == 0 {
		return nil
	}
	t.holders[key] = queue[0]
	if len(queue) == 1 {
		delete(t.waiting, key)
	} else {
		t.waiting[key] = queue[1:]
	}
	return t.holders[key]
}

func order(a, b *claim) int {
	x, y := a.wanted.ID, b.wanted.ID
	return cmp.Or(Before(a.of.created, x.Service, b.of.created, y.Service), cmp.Compare(x.Port, y.Port))
}

// settle brings what is held up to date and returns what differs, in a stable order.
func (t *Table) settle(touched []*claim) []Change {
	var changes []Change
	for _, c := range touched {
		before, after := c.held, t.share(c)
		switch {
		case before == after:
		case before != nil && after != nil && before.equal(after):
			if after == c.wanted {
				c.wanted = before // one of two that are equal is enough
			}
		default:
			changes = append(changes, Change{Old: before, New: after})
			c.held = after
		}
	}
	for _, c := range changes {
		if c.Old == nil {
			t.ports++
		}
		if c.New == nil {
			t.ports--
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return compareIDs(a.id(), b.id()) })
	return changes
}

func (c Change) id() PortID {
	if c.New != nil {
		return c.New.ID
	}
	return c.Old.ID
}

func compareIDs(a, b PortID) int {
	v6 := func(id PortID) int {
		if id.IPv6 {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name),
		cmp.Compare(v6(a), v6(b)), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

// share is what is wanted, with the frontends that the claim holds; nil when nothing is wanted any more.
func (t *Table) share(c *claim) *ServicePort {
	if c.wanted == nil {
		return nil
	}
	lost := func(f Frontend) bool { return t.holders[f.Key] != c }
	if !slices.ContainsFunc(c.wanted.Frontends, lost) {
		return c.wanted
	}
	p := *c.wanted
	p.Frontends = slices.DeleteFunc(slices.Clone(c.wanted.Frontends), lost)
	return &p
}

// Holder is the Service port that holds a key; nil when none does.
func (t *Table) Holder(key Key) *ServicePort {
	if c := t.holders[key]; c != nil {
		return c.held
	}
	return nil
}

// Service lists the ports of one Service with the frontends that they hold, in no order.
func (t *Table) Service(name types.NamespacedName) []*ServicePort {
	s := t.services[name]
	if s == nil {
		return nil
	}
	ports := make([]*ServicePort, len(s.claims))
	for i, c := range s.claims {
		ports[i] = c.held
	}
	return ports
}

// Len is the number of Service ports in the table.
func (t *Table) Len() int { return t.ports }

// All yields every Service port with the frontends that it holds, in no order.
func (t *Table) All(yield func(*ServicePort) bool) {
	for _, s := range t.services {
		for _, c := range s.claims {
			if !yield(c.held) {
				return
			}
		}
	}
}

// Disputes lists the addresses that several Services claim, in a stable order.
func (t *Table) Disputes() []Dispute {
	disputes := make([]Dispute, 0, len(t.waiting))
	for key, queue := range t.waiting {
		d := Dispute{Key: key, Holder: t.holders[key].id()}
		for _, c := range queue {
			d.Waiting = append(d.Waiting, c.id())
		}
		disputes = append(disputes, d)
	}
	slices.SortFunc(disputes, func(a, b Dispute) int {
		return cmp.Or(a.Key.Addr.Compare(b.Key.Addr), cmp.Compare(a.Key.Port, b.Key.Port),
			cmp.Compare(a.Key.Protocol, b.Key.Protocol))
	})
	return disputes
}
