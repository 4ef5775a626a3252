package agent

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
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
	clock       clock.Clock
	report      *reporter

	// hostRoot is where the file system of the node is, and cores how many CPUs it has.
	hostRoot string
	cores    int

	table    *forwarding.Table
	flows    *conntrack.Cleaner
	checks   *healthChecks
	tools    *xtables.Tools
	engine   *iptables.Engine
	plan     plan
	state    state
	retry    time.Duration
	verifyAt time.Time
	// parametersDue says that parameters of the kernel are to be set.
	parametersDue bool
}

// run follows changes until the context ends. The kernel is left as it is.
func (l *loop) run(ctx context.Context) {
	defer l.checks.close()
	timer := l.clock.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.catalog.Changed():
		case <-l.assignments.changed:
		case <-timer.C():
		}
		done := l.step(ctx)
		// The pause after a write: what arrives meanwhile goes into the next one together.
		if pause := l.plan.pace.pause(done.took); done.took > 0 {
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
	if known {
		l.report.health.SetAssigned(assigned != nil)
	}
	if assigned == nil {
		return outcome{next: idle}
	}
	l.state.assignment = assigned
	batch, complete := l.catalog.Take()
	if !complete {
		l.report.stepped(&l.state)
		return outcome{next: idle}
	}
	l.report.problems(batch.Problems)

	entries := batch.Entries
	if l.accept(ctx, assigned, &batch.World) && !batch.WorldChanged {
		entries = withDeleted(l.catalog.All(), batch.Entries)
	}
	changes := l.compute(entries)
	l.report.problems(l.checks.follow(ctx, entries, l.plan.iptables.NodePortAddresses))
	if l.engine == nil {
		l.report.stepped(&l.state)
		return outcome{next: l.backOff()}
	}
	return l.write(ctx, &batch, changes)
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

// accept takes over an assignment, or the world it is carried out in. It says whether every Service has to be computed
// again. An assignment that cannot be carried out changes nothing: the one before it goes on.
func (l *loop) accept(ctx context.Context, assigned *Assignment, world *catalog.World) (recompute bool) {
	next, refused := l.examine(ctx, assigned, world)
	l.state.refused = refused
	if refused != nil && l.state.applied != nil {
		next, refused = l.examine(ctx, l.state.applied, world)
	}
	if refused != nil {
		return false
	}
	if l.engine == nil {
		l.engine = iptables.New(l.tools, next.iptables)
	}
	l.engine.Configure(next.iptables)
	if !slices.Equal(next.iptables.NodePortAddresses, l.plan.iptables.NodePortAddresses) ||
		!slices.Equal(next.node.ServiceCIDRs, l.plan.node.ServiceCIDRs) {
		l.flows.NoteAll()
	}
	l.parametersDue = l.parametersDue || !slices.Equal(next.kernel, l.plan.kernel)
	recompute = !reflect.DeepEqual(next.node, l.plan.node)
	l.plan = next
	return recompute
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

// examine works out what an assignment comes to, or why this node cannot carry it out.
func (l *loop) examine(ctx context.Context, a *Assignment, world *catalog.World) (plan, *refusal) {
	if mode := a.Settings.Mode; mode != v1alpha1.ModeIPTables {
		return plan{}, &refusal{v1alpha1.ReasonUnsupportedMode, "spec.mode: this agent does not know " + string(mode) + "; upgrade the agent"}
	}
	if l.tools == nil {
		tools, err := xtables.Probe(ctx)
		if err != nil {
			return plan{}, &refusal{v1alpha1.ReasonBackendUnavailable, err.Error()}
		}
		l.tools = tools
		l.state.backend = v1alpha1.IPTablesBackend(tools.Backend)
	}
	next, err := resolve(&a.Settings, world, l.cores)
	if err != nil {
		return plan{}, &refusal{v1alpha1.ReasonInvalidSettings, err.Error()}
	}
	return next, nil
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
			ports, bad = forwarding.Compute(e.Service, e.Slices, &l.plan.node)
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
	start := l.clock.Now()
	verify := l.state.applied != nil && !start.Before(l.verifyAt)
	if l.state.applied == nil {
		changes = l.everything()
	}
	l.flows.Note(changes)
	l.engine.OpenHealthPorts(l.checks.ports())
	written, err := l.engine.Apply(ctx, changes)
	if err == nil && verify {
		l.parametersDue = true
		var repaired xtables.Written
		repaired, err = l.engine.Verify(ctx)
		l.state.repairs += repaired.Chains + repaired.Jumps
		l.report.verified(repaired.Chains + repaired.Jumps)
		written.Add(repaired)
	}
	if ctx.Err() != nil {
		return outcome{next: idle}
	}
	now := l.clock.Now()
	if l.state.failed = err; err != nil {
		klog.FromContext(ctx).Error(err, "Writing to the kernel failed", "retryIn", l.nextRetry())
		l.report.stepped(&l.state)
		return outcome{next: l.backOff()}
	}
	if l.parametersDue {
		// After the rules: they have the kernel load what the parameters belong to, and keep others from 127.0.0.0/8.
		l.setParameters(ctx, l.plan.kernel)
	}
	l.retry = 0
	l.state.rules = l.engine.Rules()
	if l.state.refused == nil {
		l.state.applied = l.state.assignment
	}
	if verify || l.verifyAt.IsZero() || l.verifyAt.After(now.Add(l.plan.pace.fullInterval)) {
		l.verifyAt = now.Add(l.plan.pace.fullInterval)
	}
	var took time.Duration
	if wrote := written != (xtables.Written{}) || l.state.lastSync.IsZero(); wrote || verify {
		took = now.Sub(start)
		if wrote {
			l.state.lastSync = now
		}
	}
	if !batch.Since.IsZero() {
		l.state.latency = now.Sub(batch.Since)
	}
	l.report.synced(took, batch, written)
	l.report.stepped(&l.state)
	if err := l.endFlows(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Some UDP flows may still go where they went", "retryIn", l.nextRetry())
		return outcome{took: took, next: l.backOff()}
	}
	next := l.verifyAt.Sub(now)
	if l.checks.again {
		next = min(next, longestRetry)
	}
	return outcome{took: took, next: next}
}

// endFlows ends the UDP flows that what was written has made stale.
func (l *loop) endFlows(ctx context.Context) error {
	start := l.clock.Now()
	deleted, err := l.flows.Flush(ctx, conntrack.View{
		Table:             l.table,
		ServiceCIDRs:      l.plan.node.ServiceCIDRs,
		NodePortAddresses: l.plan.iptables.NodePortAddresses,
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
