package forwarding

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Change is one Service port that is to be forwarded differently: New instead of Old. Either may be nil.
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
	services map[types.NamespacedName]*tableEntry
	ports    map[PortID]*ServicePort
	holders  map[Key]PortID
	// waiting has the claims that lost; nearly always empty.
	waiting map[Key][]PortID
}

// tableEntry is a Service as it was last given to Update, with every frontend that it claims.
type tableEntry struct {
	created int64
	claimed []*ServicePort
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{
		services: map[types.NamespacedName]*tableEntry{},
		ports:    map[PortID]*ServicePort{},
		holders:  map[Key]PortID{},
		waiting:  map[Key][]PortID{},
	}
}

// Before says whether one Service comes before another where both claim an address: the older, then the lower
// namespace/name. It is a comparison as package slices wants it.
func Before(aCreated int64, a types.NamespacedName, bCreated int64, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(aCreated, bCreated), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Update gives the table all ports of one Service, none when it is gone, and returns what changed. That may touch
// other Services, which get an address that this one gave up.
func (t *Table) Update(name types.NamespacedName, created int64, ports []*ServicePort) []Change {
	touched := map[PortID]bool{}
	if old := t.services[name]; old != nil {
		for _, p := range old.claimed {
			touched[p.ID] = true
		}
	}
	released := t.release(name, ports)
	if len(ports) == 0 {
		delete(t.services, name)
	} else {
		t.services[name] = &tableEntry{created: created, claimed: ports}
	}
	for _, p := range ports {
		touched[p.ID] = true
		for i := range p.Frontends {
			t.claim(p.Frontends[i].Key, p.ID)
		}
	}
	for _, key := range released {
		if heir, found := t.inherit(key); found {
			touched[heir] = true
		}
	}
	return t.settle(touched)
}

// release gives up the keys of a Service that its new ports no longer claim, and returns those that it held.
func (t *Table) release(name types.NamespacedName, ports []*ServicePort) []Key {
	old := t.services[name]
	if old == nil {
		return nil
	}
	claims := map[Key]PortID{}
	for _, p := range ports {
		for i := range p.Frontends {
			claims[p.Frontends[i].Key] = p.ID
		}
	}
	var released []Key
	for _, p := range old.claimed {
		for i := range p.Frontends {
			key := p.Frontends[i].Key
			if id, still := claims[key]; still && id == p.ID {
				continue
			}
			if t.holders[key] == p.ID {
				delete(t.holders, key)
				released = append(released, key)
			} else {
				t.stopWaiting(key, p.ID)
			}
		}
	}
	return released
}

func (t *Table) claim(key Key, id PortID) {
	holder, held := t.holders[key]
	switch {
	case !held:
		t.holders[key] = id
		t.stopWaiting(key, id) // it may have waited for another port of its own Service
	case holder != id && !slices.Contains(t.waiting[key], id):
		t.waiting[key] = append(t.waiting[key], id)
		slices.SortFunc(t.waiting[key], t.order)
	}
}

func (t *Table) stopWaiting(key Key, id PortID) {
	t.waiting[key] = slices.DeleteFunc(t.waiting[key], func(waiting PortID) bool { return waiting == id })
	if len(t.waiting[key]) == 0 {
		delete(t.waiting, key)
	}
}

// inherit hands a released key to the first who waits for it.
func (t *Table) inherit(key Key) (PortID, bool) {
	queue := t.waiting[key]
	if _, held := t.holders[key]; held || len(queue) == 0 {
		return PortID{}, false
	}
	t.holders[key] = queue[0]
	if len(queue) == 1 {
		delete(t.waiting, key)
	} else {
		t.waiting[key] = queue[1:]
	}
	return t.holders[key], true
}

func (t *Table) order(a, b PortID) int {
	return cmp.Or(
		Before(t.services[a.Service].created, a.Service, t.services[b.Service].created, b.Service),
		cmp.Compare(a.Port, b.Port),
	)
}

// settle brings the held ports up to date and returns those that differ, in a stable order.
func (t *Table) settle(touched map[PortID]bool) []Change {
	var changes []Change
	for id := range touched {
		before, after := t.ports[id], t.held(id)
		if before != nil && after != nil && before.equal(after) {
			continue
		}
		if before == nil && after == nil {
			continue
		}
		changes = append(changes, Change{Old: before, New: after})
		if after == nil {
			delete(t.ports, id)
		} else {
			t.ports[id] = after
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

// held is a Service port with the frontends that it holds; nil when the Service has no such port.
func (t *Table) held(id PortID) *ServicePort {
	entry := t.services[id.Service]
	if entry == nil {
		return nil
	}
	at := slices.IndexFunc(entry.claimed, func(p *ServicePort) bool { return p.ID == id })
	if at < 0 {
		return nil
	}
	claimed := entry.claimed[at]
	lost := func(f Frontend) bool { return t.holders[f.Key] != id }
	if !slices.ContainsFunc(claimed.Frontends, lost) {
		return claimed
	}
	p := *claimed
	p.Frontends = slices.DeleteFunc(slices.Clone(claimed.Frontends), lost)
	return &p
}

// Holder is the Service port that holds a key; nil when none does.
func (t *Table) Holder(key Key) *ServicePort {
	id, held := t.holders[key]
	if !held {
		return nil
	}
	return t.ports[id]
}

// Service lists the ports of one Service with the frontends that they hold, in no order.
func (t *Table) Service(name types.NamespacedName) []*ServicePort {
	entry := t.services[name]
	if entry == nil {
		return nil
	}
	var ports []*ServicePort
	for _, claimed := range entry.claimed {
		if held := t.ports[claimed.ID]; held != nil {
			ports = append(ports, held)
		}
	}
	return ports
}

// Len is the number of Service ports in the table.
func (t *Table) Len() int { return len(t.ports) }

// All yields every Service port with the frontends that it holds, in no order.
func (t *Table) All(yield func(*ServicePort) bool) {
	for _, p := range t.ports {
		if !yield(p) {
			return
		}
	}
}

// Disputes lists the addresses that several Services claim, in a stable order.
func (t *Table) Disputes() []Dispute {
	disputes := make([]Dispute, 0, len(t.waiting))
	for key, queue := range t.waiting {
		disputes = append(disputes, Dispute{Key: key, Holder: t.holders[key], Waiting: slices.Clone(queue)})
	}
	slices.SortFunc(disputes, func(a, b Dispute) int {
		return cmp.Or(a.Key.Addr.Compare(b.Key.Addr), cmp.Compare(a.Key.Port, b.Key.Port),
			cmp.Compare(a.Key.Protocol, b.Key.Protocol))
	})
	return disputes
}
