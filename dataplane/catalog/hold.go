package catalog

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// lossWindow is how long losses add up: what goes within this time goes suddenly.
	lossWindow = 5 * time.Second
	// backAgain is the share of what was lost that ends the doubt when it is back: one in so many may have gone for good
	// meanwhile.
	backAgain = 10
	// fewest is how many there have to be for the loss of nearly all of them to be strange.
	fewest = 20
)

// Count is a number of Services, and of their endpoints that may get connections.
type Count struct{ Services, Endpoints int }

func (c Count) plus(o Count) Count  { return Count{c.Services + o.Services, c.Endpoints + o.Endpoints} }
func (c Count) minus(o Count) Count { return Count{c.Services - o.Services, c.Endpoints - o.Endpoints} }

// beyond is what a count has more than another.
func (c Count) beyond(o Count) Count {
	return Count{max(0, c.Services-o.Services), max(0, c.Endpoints-o.Endpoints)}
}

// countOf counts what an entry comes to.
func countOf(e *Entry) Count {
	if e.Service == nil {
		return Count{}
	}
	c := Count{Services: 1}
	for _, s := range e.Slices {
		c.Endpoints += s.Usable()
	}
	return c
}

// HoldBack says which losses are doubted, and for how long.
type HoldBack struct {
	// LossPercent is the share of all Services, or of all endpoints, whose loss is doubted.
	LossPercent int
	// For is how long it is doubted; nothing is when it is 0.
	For time.Duration
}

// Doubts says whether so much of what there was cannot be believed to be lost.
func (h HoldBack) Doubts(before, lost Count) bool {
	strange := func(before, lost int) bool { return before >= fewest && 100*lost >= h.LossPercent*before }
	return h.For > 0 && (strange(before.Services, lost.Services) || strange(before.Endpoints, lost.Endpoints))
}

// Held is what was lost suddenly and is kept as it was.
type Held struct {
	// Lost is what is kept, and Before what there was when it was lost.
	Lost, Before Count
	// Since is when that began, and Until when the loss will be believed.
	Since, Until time.Time
}

// hold decides what is kept. It is told what a Service was before it changed, and is asked what it counts as now. Times are
// given to it.
type hold struct {
	settings HoldBack
	// begun says that there is something to lose: something was handed out.
	begun bool
	// touched are the Services that have changed since the last judgement, as they were then, and total is what there was.
	touched map[types.NamespacedName]Entry
	total   Count
	// losses are the Services that have less than they had at some time within the window or since something is held, and
	// lost is the sum of it.
	losses map[types.NamespacedName]*loss
	lost   Count
	// held is what is held; nil when nothing is. worst is the most that was.
	held  *Held
	worst Count
}

// loss is a Service that has less than it had.
type loss struct {
	was           Entry
	before, after Count
	at            time.Time
}

func (l *loss) lost() Count { return l.before.beyond(l.after) }

func newHold() hold {
	return hold{touched: map[types.NamespacedName]Entry{}, losses: map[types.NamespacedName]*loss{}}
}

// begin takes a count of what there is.
func (h *hold) begin(all Count) {
	h.begun, h.total = true, all
	clear(h.touched)
}

// touch notes what a Service is before it changes; current is asked for it where that is not known yet.
func (h *hold) touch(name types.NamespacedName, current func(types.NamespacedName) Entry) {
	if !h.begun {
		return
	}
	if _, already := h.touched[name]; !already {
		h.touched[name] = current(name)
	}
}

// judge decides what is kept from now on. It returns the Services that count as something else now although they have not
// changed: those that are kept but were handed out without what they have lost, and those that are not kept any more.
func (h *hold) judge(now time.Time, current func(types.NamespacedName) Entry) []types.NamespacedName {
	for name, was := range h.touched {
		e := current(name)
		h.weigh(name, &was, countOf(&e), now)
	}
	clear(h.touched)
	if h.held != nil {
		h.held.Lost, h.held.Until = h.lost, h.held.Since.Add(h.settings.For)
		h.worst = Count{max(h.worst.Services, h.lost.Services), max(h.worst.Endpoints, h.lost.Endpoints)}
		isBack := backAgain*h.lost.Services <= h.worst.Services && backAgain*h.lost.Endpoints <= h.worst.Endpoints
		if !isBack && now.Before(h.held.Until) {
			return nil
		}
		h.held = nil
		return h.forget(func(*loss) bool { return true })
	}
	h.forget(func(l *loss) bool { return now.Sub(l.at) >= lossWindow || h.settings.For == 0 })
	before := h.total.plus(h.lost)
	if !h.settings.Doubts(before, h.lost) {
		return nil
	}
	h.worst = h.lost
	h.held = &Held{Lost: h.lost, Before: before, Since: now, Until: now.Add(h.settings.For)}
	kept := make([]types.NamespacedName, 0, len(h.losses))
	for name := range h.losses {
		kept = append(kept, name)
	}
	return kept
}

// weigh notes what a Service has come to that was something else before.
func (h *hold) weigh(name types.NamespacedName, was *Entry, after Count, now time.Time) {
	before := countOf(was)
	h.total = h.total.plus(after.minus(before))
	l := h.losses[name]
	if l == nil {
		l = &loss{was: *was, before: before, after: before, at: now}
	}
	h.lost = h.lost.minus(l.lost())
	l.after = after
	h.lost = h.lost.plus(l.lost())
	if h.losses[name] = l; l.lost() == (Count{}) {
		delete(h.losses, name)
	}
}

// forget believes losses, and returns which.
func (h *hold) forget(believed func(*loss) bool) []types.NamespacedName {
	var names []types.NamespacedName
	for name, l := range h.losses {
		if believed(l) {
			names = append(names, name)
			h.lost = h.lost.minus(l.lost())
			delete(h.losses, name)
		}
	}
	return names
}

// kept is what a Service counts as although it is not so any more.
func (h *hold) kept(name types.NamespacedName) (Entry, bool) {
	if h.held == nil {
		return Entry{}, false
	}
	l, kept := h.losses[name]
	if !kept {
		return Entry{}, false
	}
	return l.was, true
}
