package agent

import (
	"cmp"
	"context"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/probe"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// The pauses between attempts after something went wrong: the first, and the longest they grow to.
const (
	firstRetry   = 200 * time.Millisecond
	longestRetry = 30 * time.Second
)

// loop keeps the kernel in step with the catalog and the assignment. All of it runs in one goroutine.
type loop struct {
	catalog     *catalog.Catalog
	assignments *assignmentStore
	// moved has a value when addresses of the node came or went.
	moved  <-chan struct{}
	clock  clock.Clock
	report *reporter

	// hostRoot is where the file system of the node is.
	hostRoot string
	machine  settings.Machine

	table  *forwarding.Table
	flows  *conntrack.Cleaner
	checks *healthChecks
	tools  *xtables.Tools
	// probed says that tools were looked for before they were needed.
	probed bool
	// course is what the kernel carries out, and trial what it is being taken to. Either may be nil.
	course, trial *course
	// crossing says that rules of both modes are in the kernel.
	crossing bool
	// attempts is how often the trial has failed.
	attempts int
	// retirement is what is left of a mode that the node has left; nil when nothing is.
	retirement *ipvs.Retirement
	// checked is the last answer to whether this node supports some settings.
	checked checked
	prober  *probe.Prober
	pulse   *pulse
	guard   *guard
	memory  memory
	// questions are put by people, and answered between two steps.
	questions questions
	// recollection has the last Services and endpoints, for a start without the API server.
	recollection *recollection
	// lookedAt is when another Service proxy was looked for, and cleared says that everything of ours was removed.
	lookedAt time.Time
	cleared  bool
	// onDuty opens what only the proxy of the node has open, until its context ends, which offDuty does; nil while nothing is open.
	onDuty   func(ctx context.Context)
	offDuty  context.CancelFunc
	state    state
	retry    time.Duration
	verifyAt time.Time
	// parametersDue says that parameters of the kernel are to be set, and recomputeDue that every Service is to be computed
	// again.
	parametersDue, recomputeDue bool
}

// course is settings that the kernel carries out: an assignment, what it comes to on this node, and the engine.
type course struct {
	assignment *Assignment
	plan       settings.Plan
	engine     engine
	// fresh says that the engine has not been given the forwarding table yet.
	fresh bool
	// passing are the probes that passed before.
	passing []probe.Passed
}

// current is what changes are written for; nil when there is nothing yet.
func (l *loop) current() *course {
	if l.trial != nil {
		return l.trial
	}
	return l.course
}

// plan is what the current settings come to.
func (l *loop) plan() *settings.Plan {
	if c := l.current(); c != nil {
		return &c.plan
	}
	return &settings.Plan{}
}

// run follows changes until the context ends. The kernel is left as it is.
func (l *loop) run(ctx context.Context) {
	defer func() { l.checks.close() }()
	l.memory.recall(ctx)
	timer := l.clock.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.catalog.Changed():
		case <-l.assignments.changed:
		case <-l.moved:
		case <-l.pulse.changed:
		case <-l.guard.changed():
		case answer := <-l.questions:
			answer(l)
			continue
		case <-timer.C():
		}
		done := l.step(ctx)
		// The pause after a write: what arrives meanwhile goes into the next one together.
		if pause := l.plan().Pace.Pause(done.took); done.took > 0 {
			select {
			case <-ctx.Done():
				return
			case <-l.clock.After(pause):
			}
		}
		timer.Stop()
		timer = l.clock.NewTimer(done.next)
	}
}

// outcome is what a step asks of the loop: how long its write took, zero when it wrote nothing, and when the next step is
// due if nothing changes.
type outcome struct{ took, next time.Duration }

// idle is how long a step may wait that has nothing planned; a change ends the wait at once.
const idle = time.Hour

// step carries out what there is to do.
func (l *loop) step(ctx context.Context) outcome {
	assigned, known := l.assignments.get()
	target := l.resume(assigned)
	if known || target != nil {
		l.report.health.SetAssigned(target != nil && !target.Release)
	}
	if target == nil {
		return outcome{next: idle}
	}
	l.state.assignment, l.state.unconfirmed = cmp.Or(assigned, target), assigned == nil
	if l.cleared && !target.Release {
		l.cleared, l.state.released, l.lookedAt = false, false, time.Time{}
	}
	l.feelPulse(ctx)
	look := l.lookForOthers(ctx)
	l.catalog.SetHoldBack(resolveHoldBack(target.Settings.Sync.HoldBack))
	batch, complete := l.catalog.Take()
	doubt := l.doubt(ctx, batch.Held)
	var done outcome
	switch {
	case target.Release:
		l.compute(batch.Entries)
		l.recomputeDue = true
		done = l.release(ctx, target)
		l.setDuty(ctx, l.offDuty != nil && !l.cleared)
	case !complete:
		l.setDuty(ctx, true)
		l.probeAhead(ctx)
		done = outcome{next: l.lookBack(ctx)}
		l.stepped(ctx)
	default:
		l.setDuty(ctx, true)
		done = l.carryOut(ctx, target, &batch)
	}
	if assigned != nil && assigned != target && l.course != nil {
		return outcome{took: done.took} // what was good last runs again, and what is assigned can be tried
	}
	done.next = min(done.next, look, doubt)
	return done
}

// carryOut brings the kernel closer to an assignment.
func (l *loop) carryOut(ctx context.Context, target *Assignment, batch *catalog.Batch) outcome {
	l.report.problems(batch.Problems)
	before := l.plan().Node
	l.steer(ctx, target, &batch.World)
	if l.state.refused != nil && l.course == nil && l.state.assignment != target {
		l.distrust()
		l.steer(ctx, l.state.assignment, &batch.World)
	}
	entries := batch.Entries
	if l.recomputeDue || !reflect.DeepEqual(before, l.plan().Node) {
		l.recomputeDue = false
		if !batch.WorldChanged {
			entries = withDeleted(l.catalog.All(), batch.Entries)
		}
	}
	changes := l.compute(entries)
	l.recollect(ctx, batch, len(changes) > 0)
	l.report.problems(l.checks.follow(ctx, entries, l.plan().NodePortAddresses))
	if l.current() == nil {
		l.stepped(ctx)
		return outcome{next: l.backOff()}
	}
	return l.write(ctx, batch, changes)
}

// withDeleted adds to every Service there is those of a batch that are gone: nobody will speak of them again.
func withDeleted(all, batch []catalog.Entry) []catalog.Entry {
	for _, e := range batch {
		if e.Service == nil {
			all = append(all, e)
		}
	}
	return all
}

// compute brings the forwarding table up to date. Without an engine the table is kept all the same: it is what the
// engine starts from once there is one.
func (l *loop) compute(entries []catalog.Entry) []forwarding.Change {
	slices.SortFunc(entries, func(a, b catalog.Entry) int {
		return forwarding.Before(a.Created(), a.Name, b.Created(), b.Name)
	})
	var changes []forwarding.Change
	var problems []catalog.Problem
	for _, e := range entries {
		var ports []*forwarding.ServicePort
		if e.Service != nil {
			var bad []forwarding.Problem
			ports, bad = forwarding.Compute(e.Service, e.Slices, &l.plan().Node)
			for _, p := range bad {
				problems = append(problems, catalog.ServiceProblem(e.Name, p.Field, p.Message))
			}
		}
		changes = append(changes, l.table.Update(e.Name, e.Created(), ports)...)
	}
	for _, c := range changes {
		l.count(c)
	}
	l.report.problems(append(problems, l.newDisputes()...))
	return changes
}

func (l *loop) count(c forwarding.Change) {
	for sign, p := range map[int]*forwarding.ServicePort{-1: c.Old, 1: c.New} {
		if p != nil {
			l.state.services += sign
			l.state.endpoints += sign * p.Endpoints()
			l.state.noLocal.count(p, sign)
		}
	}
}

// newDisputes notes which addresses several Services claim, and returns those that were not known before.
func (l *loop) newDisputes() []catalog.Problem {
	var disputes []string
	var problems []catalog.Problem
	for _, d := range l.table.Disputes() {
		for _, loser := range d.Waiting {
			text := d.Key.String() + " is held by " + d.Holder.String() + " and also claimed by " + loser.String()
			disputes = append(disputes, text)
			if !slices.Contains(l.state.disputes, text) {
				problems = append(problems, catalog.ServiceProblem(loser.Service, "spec", text+
					"; the Service that holds it keeps it until it gives it up"))
			}
		}
	}
	l.state.disputes = disputes
	return problems
}

// write has the engine write the changes, or everything where that is due.
func (l *loop) write(ctx context.Context, batch *catalog.Batch, changes []forwarding.Change) outcome {
	if !batch.Since.IsZero() {
		l.report.queued(batch.Since)
	}
	l.heed(ctx)
	start := l.clock.Now()
	verify := l.trial == nil && !start.Before(l.verifyAt)
	full := verify || l.current().fresh
	l.flows.Note(changes)
	written, err := l.apply(ctx, changes)
	switch {
	case err != nil:
	case l.trial != nil:
		err = l.prove(ctx, &written)
	case verify:
		var repaired effect
		repaired, err = l.lookForDrift(ctx)
		written.add(repaired)
	}
	if ctx.Err() != nil {
		return outcome{next: idle}
	}
	now := l.clock.Now()
	if l.state.failed = err; err != nil {
		klog.FromContext(ctx).Error(err, "Writing to the kernel failed", "retryIn", l.nextRetry())
		if l.giveUp(ctx, err) {
			l.memory.keep(ctx, &l.state) // first, should this be the end: they are not to be tried again
			return outcome{}             // at once; it is told when the node is back
		}
		l.stepped(ctx)
		return outcome{next: l.backOff()}
	}
	if l.parametersDue {
		// After the rules: they have the kernel load what the parameters belong to, and keep others from 127.0.0.0/8.
		l.setParameters(ctx, l.plan().Kernel)
	}
	l.retry = 0
	l.state.rules = l.course.engine.Rules()
	l.tellProblems()
	if verify || l.verifyAt.IsZero() || l.verifyAt.After(now.Add(l.plan().Pace.FullInterval)) {
		l.verifyAt = now.Add(l.plan().Pace.FullInterval)
	}
	var took time.Duration
	if wrote := written != (effect{}) || l.state.lastSync.IsZero(); wrote || verify {
		took = now.Sub(start)
		if wrote {
			l.state.lastSync = now
			l.reconsider(now)
		}
	}
	if !batch.Since.IsZero() {
		l.state.latency = now.Sub(batch.Since)
	}
	l.report.synced(took, batch, written)
	l.report.metrics.wrote(took, full)
	next, err := l.follow(ctx)
	l.stepped(ctx)
	letGo(full, batch)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Some flows may still go where they went", "retryIn", l.nextRetry())
		return outcome{took: took, next: l.backOff()}
	}
	return outcome{took: took, next: min(next, l.guard.dueIn(now, l.verifyAt))}
}

// letGo returns memory to the system that was needed to look at everything: several times what stays, and not needed again
// before minutes have passed.
func letGo(full bool, batch *catalog.Batch) {
	if full || batch.WorldChanged {
		debug.FreeOSMemory()
	}
}

// apply gives changes to the engines: to the one whose rules lead packets, and to one that is to take over.
func (l *loop) apply(ctx context.Context, changes []forwarding.Change) (effect, error) {
	var all effect
	for _, c := range []*course{l.course, l.trial} {
		if c == nil || c.engine == nil || c == l.course && l.trial != nil && l.trial.engine == c.engine {
			continue
		}
		todo := changes
		if c.fresh {
			todo = l.everything()
			if err := l.prepare(&c.plan); err != nil {
				return all, err
			}
		}
		c.engine.OpenHealthPorts(l.checks.ports())
		written, err := c.engine.Apply(ctx, todo)
		all.add(written)
		if err != nil {
			return all, err
		}
		c.fresh = false
	}
	return all, nil
}

// follow does what follows a write: it ends flows that lead nowhere, and looks after connections that have to end by
// themselves. It returns when to come again.
func (l *loop) follow(ctx context.Context) (time.Duration, error) {
	next := idle
	if l.checks.again {
		next = longestRetry
	}
	if err := l.endFlows(ctx); err != nil {
		return next, err
	}
	again, err := l.course.engine.drain(ctx)
	if again > 0 {
		next = min(next, again)
	}
	if err != nil || l.retirement == nil {
		return next, err
	}
	again, err = l.stepRetirement(ctx)
	return min(next, again), err
}

// stepRetirement removes what no connection of a mode that was left needs any more. It returns when to look again.
func (l *loop) stepRetirement(ctx context.Context) (time.Duration, error) {
	connections, again, err := l.retirement.Step(ctx)
	l.state.draining = connections
	switch {
	case err == nil && again == 0:
		l.retirement = nil
		klog.FromContext(ctx).Info("No connection is left in the mode that this node has left")
		return idle, nil
	case again == 0:
		return idle, err
	}
	return again, err
}

// stepped tells of the state after a step, and keeps what is to be known after a restart.
func (l *loop) stepped(ctx context.Context) {
	l.memory.keep(ctx, &l.state)
	l.state.forgetful = cmp.Or(l.memory.problem, l.recollection.forgetful())
	l.feelPulse(ctx)
	l.report.stepped(&l.state)
}

// tellProblems tells which addresses the engine had to leave out.
func (l *loop) tellProblems() {
	problems := l.course.engine.problems()
	l.state.leftOut = l.state.leftOut[:0]
	for _, p := range problems {
		l.state.leftOut = append(l.state.leftOut, p.Message)
	}
	// What is of no Service is told in status alone.
	l.report.problems(slices.DeleteFunc(problems, func(p catalog.Problem) bool { return p.Object.Name == "" }))
}

// setParameters sets parameters of the kernel. Services work without them, so what cannot be set is told and no more.
func (l *loop) setParameters(ctx context.Context, writes []conntrack.Write) {
	refused, err := conntrack.Apply(l.hostRoot, writes)
	for _, r := range refused {
		klog.FromContext(ctx).V(1).Info("A parameter of the machine stays as it is", "reason", r)
	}
	l.parametersDue, l.state.refusedByKernel = false, nil
	if err != nil {
		l.state.refusedByKernel = strings.Split(err.Error(), "\n")
	}
}

// endFlows ends the UDP flows that what was written has made stale.
func (l *loop) endFlows(ctx context.Context) error {
	start := l.clock.Now()
	deleted, err := l.flows.Flush(ctx, conntrack.View{
		Table:             l.table,
		ServiceCIDRs:      l.plan().Node.ServiceCIDRs,
		NodePortAddresses: l.plan().NodePortAddresses,
	})
	l.report.flowsEnded(deleted, l.clock.Since(start))
	return err
}

// everything is the whole forwarding table as changes.
func (l *loop) everything() []forwarding.Change {
	changes := make([]forwarding.Change, 0, l.table.Len())
	for p := range l.table.All {
		changes = append(changes, forwarding.Change{New: p})
	}
	return changes
}

// nextRetry is how long to wait before the next attempt; backOff also makes the one after that wait longer.
func (l *loop) nextRetry() time.Duration { return min(max(2*l.retry, firstRetry), longestRetry) }

func (l *loop) backOff() time.Duration {
	l.retry = l.nextRetry()
	return l.retry
}
