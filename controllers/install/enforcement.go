package install

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// grace is how long the guard may fail to be in force before that is told. A guard that was just made needs a second or
// two, and so does one that somebody has deleted and that is made anew.
const grace = 30 * time.Second

// Guard is what is known of the guard policy being in force. It is safe for concurrent use.
type Guard struct {
	clock   clock.PassiveClock
	changed chan event.GenericEvent

	mu      sync.Mutex
	problem string
	since   time.Time // when the first of the problems in a row was seen
}

// NewGuard returns a guard of which nothing is known.
func NewGuard(clock clock.PassiveClock) *Guard {
	return &Guard{clock: clock, changed: make(chan event.GenericEvent, 1)}
}

// Problem says why the guard is not in force, to people. It is empty while it is, and while that is not known yet.
func (g *Guard) Problem() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.problem
}

// Changed gets an event whenever Problem has changed.
func (g *Guard) Changed() <-chan event.GenericEvent { return g.changed }

// observe notes what was just found out: that the guard is in force, or why it is not.
func (g *Guard) observe(problem string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock.Now()
	switch {
	case problem == "":
		g.since = time.Time{}
	case g.since.IsZero():
		g.since = now
	}
	if problem != "" && now.Sub(g.since) < grace {
		return
	}
	if g.problem == problem {
		return
	}
	g.problem = problem
	select {
	case g.changed <- event.GenericEvent{}:
	default: // whoever has not read the last one will find both changes
	}
}
