package catalog

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Catalog is what the API says, reduced to what the data plane needs. It is safe for concurrent use; what it hands out
// is never changed afterwards.
type Catalog struct {
	nodeName string
	now      func() time.Time
	changed  chan struct{}

	mu           sync.Mutex
	services     map[types.NamespacedName]*forwarding.Service
	slices       map[types.NamespacedName]*slice   // by the name of the slice
	byService    map[types.NamespacedName][]*slice // by the name of the Service
	serviceCIDRs map[types.NamespacedName][]netip.Prefix
	node         *Node
	synced       map[string]bool

	dirty       map[types.NamespacedName]time.Time // and since when
	triggered   []time.Time
	problems    []Problem
	worldChange bool
	changes     Changes
	// remembered stands in for what is not listed yet; nil when nothing does.
	remembered *remembered
	hold       hold
}

// Node is what the data plane needs of the node's own Node object.
type Node struct {
	Zone      string
	PodCIDRs  []netip.Prefix
	Addresses []netip.Addr
	// Leaving says that load balancers should stop sending here: the Node is being deleted or is marked so (KEP-3836).
	Leaving bool
}

func (n *Node) equal(o *Node) bool {
	if n == nil || o == nil {
		return n == o
	}
	return n.Zone == o.Zone && n.Leaving == o.Leaving && slices.Equal(n.PodCIDRs, o.PodCIDRs) &&
		slices.Equal(n.Addresses, o.Addresses)
}

// New returns an empty catalog as seen from one node.
func New(nodeName string, now func() time.Time) *Catalog {
	return &Catalog{
		nodeName:     nodeName,
		now:          now,
		changed:      make(chan struct{}, 1),
		services:     map[types.NamespacedName]*forwarding.Service{},
		slices:       map[types.NamespacedName]*slice{},
		byService:    map[types.NamespacedName][]*slice{},
		serviceCIDRs: map[types.NamespacedName][]netip.Prefix{},
		synced:       map[string]bool{},
		dirty:        map[types.NamespacedName]time.Time{},
		hold:         newHold(),
	}
}

// SetHoldBack says which losses are doubted from now on; none before it is called.
func (c *Catalog) SetHoldBack(settings HoldBack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold.settings = settings
}

// Changed has a value whenever Take has something new to say.
func (c *Catalog) Changed() <-chan struct{} { return c.changed }

// notify must not block: one waiting signal stands for any number of changes.
func (c *Catalog) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Synced says whether everything has been listed once, so that what is missing is really missing.
func (c *Catalog) Synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.syncedLocked()
}

func (c *Catalog) syncedLocked() bool {
	for _, kind := range []string{kindServices, kindSlices, kindServiceCIDRs, kindNodes} {
		if !c.synced[kind] {
			return false
		}
	}
	return true
}

// Entry is a Service and its slices as they are now.
type Entry struct {
	Name types.NamespacedName
	// Service is nil when there is none, or none that gets rules.
	Service *forwarding.Service
	Slices  []*forwarding.Slice
}

// World is what concerns every Service.
type World struct {
	Node         Node
	ServiceCIDRs []netip.Prefix
}

// Batch is what changed since the last Take.
type Batch struct {
	World World
	// WorldChanged says that the world is new; then Entries has every Service.
	WorldChanged bool
	Entries      []Entry
	// Since is when the oldest of these changes arrived; zero when there is none.
	Since time.Time
	// Triggered are the times at which the endpoints in Entries changed in the cluster, where that is known.
	Triggered []time.Time
	Problems  []Problem
	// Remembered says that this is what Restore was given, because the first lists are not complete.
	Remembered bool
	// Held is what was lost suddenly and is handed out as it was; nil when nothing is. Take has to be called again at its end.
	Held *Held
}

// Take returns what changed since the last Take, or false as long as the first lists are not complete and nothing was
// restored. What is held back counts as unchanged.
func (c *Catalog) Take() (Batch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.syncedLocked() {
		return c.takeRememberedLocked()
	}
	c.forgetRememberedLocked()
	c.judgeLocked()
	b := Batch{World: c.worldLocked(), WorldChanged: c.worldChange, Triggered: c.triggered, Problems: c.problems}
	if c.hold.held != nil {
		held := *c.hold.held
		b.Held = &held
	}
	for name, since := range c.dirty {
		if b.Since.IsZero() || since.Before(b.Since) {
			b.Since = since
		}
		if !c.worldChange {
			b.Entries = append(b.Entries, c.viewLocked(name))
		}
	}
	if c.worldChange {
		b.Entries = c.entriesLocked()
		for i := range b.Entries {
			delete(c.dirty, b.Entries[i].Name)
		}
		for name := range c.dirty { // those that are gone
			b.Entries = append(b.Entries, c.viewLocked(name))
		}
	}
	c.dirty, c.triggered, c.problems, c.worldChange = map[types.NamespacedName]time.Time{}, nil, nil, false
	c.changes.taken()
	return b, true
}

// All returns every Service, as if everything had changed. What changed since the last Take is still reported by the
// next one.
func (c *Catalog) All() []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remembered != nil && !c.syncedLocked() {
		return slices.Clone(c.remembered.Entries)
	}
	c.judgeLocked()
	return c.entriesLocked()
}

// entriesLocked are all Services, also those that are gone but kept.
func (c *Catalog) entriesLocked() []Entry {
	entries := make([]Entry, 0, len(c.services))
	for name := range c.services {
		entries = append(entries, c.viewLocked(name))
	}
	if c.hold.held != nil {
		for name, l := range c.hold.losses {
			if c.services[name] == nil {
				entries = append(entries, l.was)
			}
		}
	}
	return entries
}

// judgeLocked decides what is held back of what has changed.
func (c *Catalog) judgeLocked() {
	if !c.syncedLocked() {
		return
	}
	if !c.hold.begun {
		var all Count
		for name := range c.services {
			e := c.entryLocked(name)
			all = all.plus(countOf(&e))
		}
		c.hold.begin(all)
	}
	for _, name := range c.hold.judge(c.now(), c.entryLocked) {
		c.markLocked(name)
	}
}

// viewLocked is what a Service counts as: what it was, where what it has lost is held back.
func (c *Catalog) viewLocked(name types.NamespacedName) Entry {
	if e, kept := c.hold.kept(name); kept {
		return e
	}
	return c.entryLocked(name)
}

func (c *Catalog) entryLocked(name types.NamespacedName) Entry {
	e := Entry{Name: name, Service: c.services[name]}
	if e.Service != nil {
		for _, s := range c.byService[name] {
			e.Slices = append(e.Slices, &s.Slice)
		}
	}
	return e
}

func (c *Catalog) worldLocked() World {
	var w World
	if c.node != nil {
		w.Node = *c.node
	}
	for _, cidrs := range c.serviceCIDRs {
		w.ServiceCIDRs = append(w.ServiceCIDRs, cidrs...)
	}
	slices.SortFunc(w.ServiceCIDRs, comparePrefixes)
	w.ServiceCIDRs = slices.Compact(w.ServiceCIDRs)
	return w
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

func (c *Catalog) markLocked(name types.NamespacedName) {
	if _, already := c.dirty[name]; !already {
		c.dirty[name] = c.now()
	}
	c.notify()
}

func (c *Catalog) setSynced(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced[kind] = true
	c.notify()
}

func (c *Catalog) setServiceLocked(r reduced[forwarding.Service]) {
	c.problems = append(c.problems, r.problems...)
	c.hold.touch(r.name, c.entryLocked)
	_, known := c.services[r.name]
	switch {
	case r.value != nil:
		c.services[r.name] = r.value
	case known:
		delete(c.services, r.name)
	default:
		return
	}
	c.changes.countService()
	c.markLocked(r.name)
}

func (c *Catalog) setSliceLocked(r reduced[slice]) {
	c.problems = append(c.problems, r.problems...)
	if r.value != nil || c.slices[r.name] != nil {
		c.changes.countSlice()
	}
	c.dropSliceLocked(r.name)
	if r.value == nil {
		return
	}
	c.hold.touch(r.value.owner, c.entryLocked)
	c.slices[r.name] = r.value
	c.byService[r.value.owner] = append(c.byService[r.value.owner], r.value)
	if !r.triggered.IsZero() && c.synced[kindSlices] {
		c.triggered = append(c.triggered, r.triggered)
	}
	c.markLocked(r.value.owner)
}

func (c *Catalog) dropSliceLocked(name types.NamespacedName) {
	old := c.slices[name]
	if old == nil {
		return
	}
	c.hold.touch(old.owner, c.entryLocked)
	delete(c.slices, name)
	owned := c.byService[old.owner]
	owned = slices.DeleteFunc(owned, func(s *slice) bool { return s == old })
	if c.byService[old.owner] = owned; len(owned) == 0 {
		delete(c.byService, old.owner)
	}
	c.markLocked(old.owner)
}

func (c *Catalog) setServiceCIDRsLocked(r reduced[[]netip.Prefix]) {
	switch {
	case r.value == nil:
		delete(c.serviceCIDRs, r.name)
	case slices.Equal(c.serviceCIDRs[r.name], *r.value):
		return
	default:
		c.serviceCIDRs[r.name] = *r.value
	}
	c.worldChange = true
	c.notify()
}

// setNodeLocked keeps the last known node where the Node object is gone: its pods are still there.
func (c *Catalog) setNodeLocked(r reduced[Node]) {
	if r.value == nil {
		if c.node == nil {
			return
		}
		leaving := *c.node
		leaving.Leaving = true
		r.value = &leaving
	}
	if c.node.equal(r.value) {
		return
	}
	c.node = r.value
	c.worldChange = true
	c.notify()
}

func (c *Catalog) knownNodes() []types.NamespacedName {
	if c.node == nil {
		return nil
	}
	return []types.NamespacedName{{Name: c.nodeName}}
}

func names[T any](m map[types.NamespacedName]T) []types.NamespacedName {
	return slices.Collect(maps.Keys(m))
}

// Created is when the Service was created, in Unix seconds; 0 when there is none.
func (e Entry) Created() int64 {
	if e.Service == nil {
		return 0
	}
	return e.Service.Created
}
