package catalog

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Snapshot is everything a catalog knew at one time. Nothing of it is ever changed.
type Snapshot struct {
	Taken time.Time
	// NodeName is the node as seen from which it is; on another one other endpoints are local.
	NodeName string
	World    World
	Entries  []Entry
}

// remembered is a snapshot that stands in for lists that are not complete yet.
type remembered struct {
	Snapshot
	// taken says that Take has handed it out.
	taken bool
}

// Snapshot returns everything that the catalog knows from the API, what is held back as it was, or false as long as the
// first lists are not complete.
func (c *Catalog) Snapshot() (Snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.syncedLocked() {
		return Snapshot{}, false
	}
	c.judgeLocked()
	return Snapshot{Taken: c.now(), NodeName: c.nodeName, World: c.worldLocked(), Entries: c.entriesLocked()}, true
}

// Restore has the catalog hand out a snapshot until the first lists are complete. All of them replace it at once, so that
// no Service loses its endpoints because those of some are listed and those of others are not. It changes nothing where
// the lists are complete.
func (c *Catalog) Restore(s Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.syncedLocked() {
		return
	}
	c.remembered = &remembered{Snapshot: s}
	c.notify()
}

// takeRememberedLocked returns the snapshot that was restored, once, and then that nothing has changed.
func (c *Catalog) takeRememberedLocked() (Batch, bool) {
	r := c.remembered
	if r == nil {
		return Batch{}, false
	}
	b := Batch{Remembered: true, World: r.World}
	if !r.taken {
		r.taken, b.WorldChanged, b.Entries = true, true, slices.Clone(r.Entries)
	}
	return b, true
}

// forgetRememberedLocked makes a change of everything that is different in the lists.
func (c *Catalog) forgetRememberedLocked() {
	if c.remembered == nil {
		return
	}
	if c.remembered.taken {
		c.compareRememberedLocked()
		c.worldChange = true
	}
	c.remembered = nil
}

// compareRememberedLocked takes what was remembered for what there was before, and the lists for a change of it.
func (c *Catalog) compareRememberedLocked() {
	known := make(map[types.NamespacedName]Entry, len(c.remembered.Entries))
	var all Count
	for i := range c.remembered.Entries {
		e := &c.remembered.Entries[i]
		known[e.Name] = *e
		all = all.plus(countOf(e))
	}
	c.hold.begin(all)
	for name := range c.services {
		if e, was := known[name]; was {
			c.hold.touched[name] = e
		} else {
			c.hold.touched[name] = Entry{Name: name}
		}
	}
	for name, e := range known {
		if c.services[name] == nil {
			c.hold.touched[name] = e
			c.markLocked(name)
		}
	}
}
