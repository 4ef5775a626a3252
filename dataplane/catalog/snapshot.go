package catalog

import (
	"slices"
	"time"
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

// Snapshot returns everything that the catalog knows from the API, or false as long as the first lists are not complete.
func (c *Catalog) Snapshot() (Snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.syncedLocked() {
		return Snapshot{}, false
	}
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
		for i := range c.remembered.Entries {
			if name := c.remembered.Entries[i].Name; c.services[name] == nil {
				c.markLocked(name)
			}
		}
		c.worldChange = true
	}
	c.remembered = nil
}
