package agent

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/drift"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

const (
	// gather is how long a notice waits for others: who empties a table seldom does only that.
	gather = 100 * time.Millisecond
	// shortestRest is the shortest time between two comparisons, and restFactor keeps the share of time that they take below
	// one in ten, whatever others do to the kernel.
	shortestRest = time.Second / 2
	// glanceInterval is the time between two looks for changes of which the kernel gives no notice.
	glanceInterval = 5 * time.Second
	restFactor     = 10
	// repairEventGap is the shortest time between two events about repairs.
	repairEventGap = time.Minute
)

// guard notices that somebody else has changed what is ours in the kernel. It decides when everything is to be compared,
// not what is different then.
type guard struct {
	// heard tells of what the kernel gives notice of; nil where it gives none.
	heard *drift.Watcher
	// restUntil is when it may be compared again.
	restUntil time.Time
	// glanceAt is when to look for what the kernel gives no notice of, blind says that this failed last, and parameters what
	// was not right then.
	glanceAt   time.Time
	blind      bool
	parameters []string
	// suspects is what may have been changed since the last comparison, as far as it is known.
	suspects []drift.Suspect
	// fullAt is when everything is to be compared, and not only what was heard of.
	fullAt time.Time
	// toldAt is when an event was made about a repair, and untold how much was repaired since.
	toldAt time.Time
	untold int
}

// newGuard listens until the context ends.
func newGuard(ctx context.Context) *guard {
	heard, err := drift.Watch(ctx, xtables.OwnPrefix)
	if err != nil {
		klog.FromContext(ctx).Info("The kernel gives no notice of changes by others; they are found when everything is compared", "reason", err.Error())
		return &guard{}
	}
	return &guard{heard: heard}
}

// changed has a value when there may be something to heed.
func (g *guard) changed() <-chan struct{} {
	if g.heard == nil {
		return nil
	}
	return g.heard.Changed()
}

// heed moves the next comparison forward when something was heard or seen.
func (l *loop) heed(ctx context.Context) {
	now := l.clock.Now()
	if l.guard.heard != nil {
		if suspects := l.guard.heard.Take(); len(suspects) > 0 {
			l.guard.suspects = append(l.guard.suspects, suspects...)
			l.compareBy(now.Add(gather))
		}
	}
	if l.guard.fullAt.IsZero() {
		l.guard.fullAt = l.verifyAt
	}
	l.compareBy(l.guard.fullAt)
	if l.trial != nil || l.course == nil || now.Before(l.guard.glanceAt) {
		return
	}
	l.guard.glanceAt = now.Add(glanceInterval)
	changed, err := l.course.engine.Changed(ctx)
	if err != nil && !l.guard.blind {
		klog.FromContext(ctx).Error(err, "Looking for changes by others failed; they are found when everything is compared")
	}
	l.guard.blind = err != nil
	parameters := l.parametersAstray()
	if changed || !slices.Equal(parameters, l.guard.parameters) {
		l.guard.parameters, l.guard.fullAt = parameters, now
		l.compareBy(now)
	}
}

// parametersAstray are the parameters of the kernel that somebody else has set, where we may set them.
func (l *loop) parametersAstray() []string {
	if len(l.state.refusedByKernel) > 0 {
		return nil
	}
	return conntrack.Compare(l.hostRoot, l.plan().Kernel)
}

// dueIn is how long there is nothing to be looked at.
func (g *guard) dueIn(now, verifyAt time.Time) time.Duration {
	return min(verifyAt.Sub(now), g.glanceAt.Sub(now))
}

// reconsider has a write followed by another look at what was left different: it may have been put right by the way.
func (l *loop) reconsider(now time.Time) {
	if len(l.state.drifted) > 0 {
		l.guard.fullAt = now.Add(gather)
		l.compareBy(l.guard.fullAt)
	}
}

// compareBy has everything compared at some time, or when it may be.
func (l *loop) compareBy(due time.Time) {
	if due.Before(l.guard.restUntil) {
		due = l.guard.restUntil
	}
	if due.Before(l.verifyAt) {
		l.verifyAt = due
	}
}

// places are the chains of which something was heard, where it is enough to look there; none to look at everything.
func (g *guard) places(now time.Time) []xtables.Place {
	if !now.Before(g.fullAt) {
		return nil
	}
	var places []xtables.Place
	for _, s := range g.suspects {
		if s.Chain == "" {
			return nil
		}
		places = append(places, s.Place)
	}
	return places
}

// lookForDrift compares what the kernel holds. What is different is put right, or told where the settings want no more: all
// of it then.
func (l *loop) lookForDrift(ctx context.Context) (effect, error) {
	start := l.clock.Now()
	suspects := l.guard.suspects
	reportOnly := l.course.assignment.Settings.Sync.Drift == v1alpha1.DriftReportOnly
	var places []xtables.Place
	if !reportOnly {
		places = l.guard.places(start)
	}
	different, err := l.course.engine.Compare(ctx, places...)
	if err != nil {
		return effect{}, err
	}
	l.guard.parameters = l.parametersAstray()
	different = append(different, l.guard.parameters...)
	var repaired effect
	if reportOnly {
		if strings.Join(different, "\n") != strings.Join(l.state.drifted, "\n") {
			klog.FromContext(ctx).Info("What the kernel holds is not what was written, and is left so", "different", list(different), "heard", texts(suspects))
		}
		l.state.drifted = different
	} else {
		l.state.drifted, l.guard.parameters, l.parametersDue = nil, nil, true
		if len(different) > 0 {
			repaired, err = l.repair(ctx, different, suspects, places)
		}
	}
	l.guard.suspects = nil
	now := l.clock.Now()
	if len(places) == 0 {
		l.guard.fullAt = now.Add(l.plan().Pace.FullInterval)
	}
	l.guard.restUntil = now.Add(max(shortestRest, restFactor*now.Sub(start)))
	return repaired, err
}

// repair puts right what is different.
func (l *loop) repair(ctx context.Context, different []string, suspects []drift.Suspect, places []xtables.Place) (effect, error) {
	repaired, err := l.course.engine.Verify(ctx, places...)
	if err != nil {
		return repaired, err
	}
	repairs := max(repaired.changes, len(different))
	l.state.repairs += repairs
	l.report.metrics.repairs.Add(float64(repairs))
	klog.FromContext(ctx).Info("Repaired what somebody else had changed in the kernel", "repairs", repairs, "different", list(different), "heard", texts(suspects))
	l.guard.untold += repairs
	now := l.clock.Now()
	if uid := l.state.assignment.UID; l.report.recorder != nil && uid != "" && now.Sub(l.guard.toldAt) >= repairEventGap {
		node := &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion().String(), Kind: "ServiceProxyNode", Name: l.report.nodeName, UID: uid}
		l.report.recorder.Event(node, corev1.EventTypeWarning, v1alpha1.ReasonChangedByOthers,
			shorten(fmt.Sprintf("%d repairs of what somebody else had changed in the kernel: %s", l.guard.untold, list(different))))
		l.guard.toldAt, l.guard.untold = now, 0
	}
	return repaired, nil
}

// texts are suspects in words.
func texts(suspects []drift.Suspect) []string {
	var all []string
	for _, s := range suspects {
		all = append(all, s.String())
	}
	return all
}

// listed is how many of several things are named.
const listed = 5

// list names the first of several things.
func list(things []string) string {
	if more := len(things) - listed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(things[:listed], ", "), more)
	}
	return strings.Join(things, ", ")
}

// driftedCondition is there while something is not as it was written, and left so.
func (s *state) driftedCondition() []metav1.Condition {
	if len(s.drifted) == 0 {
		return nil
	}
	return []metav1.Condition{{Type: v1alpha1.ConditionDrifted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonChangedByOthers,
		Message: shorten(fmt.Sprintf("%d things are not as they were written, and are left so (spec.sync.drift): %s", len(s.drifted), list(s.drifted)))}}
}

// quiet is an engine whose writes are no news to the guard.
type quiet struct {
	engine
	guard *guard
}

// quietly makes the engine that a plan asks for, whose writes are no news.
func (l *loop) quietly(e engine) engine {
	if l.guard.heard == nil {
		return e
	}
	return &quiet{e, l.guard}
}

func (q *quiet) Apply(ctx context.Context, changes []forwarding.Change) (written effect, err error) {
	q.guard.heard.Own(func() { written, err = q.engine.Apply(ctx, changes) })
	return written, err
}

func (q *quiet) Verify(ctx context.Context, only ...xtables.Place) (written effect, err error) {
	q.guard.heard.Own(func() { written, err = q.engine.Verify(ctx, only...) })
	return written, err
}

func (q *quiet) leave(ctx context.Context) (retirement *ipvs.Retirement, err error) {
	q.guard.heard.Own(func() { retirement, err = q.engine.leave(ctx) })
	return retirement, err
}

// Close ends the engine where it has something open.
func (q *quiet) Close() error {
	if open, is := q.engine.(io.Closer); is {
		return open.Close()
	}
	return nil
}
