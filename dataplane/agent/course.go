package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/probe"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// A node goes from one course to the next without losing its way back: new settings are a trial until they have been
// written, read back and proved; the course before them stays beside them until then, and is what the node returns to.

// attempts is how often the kernel may refuse new settings before the node returns to those it had.
const attempts = 3

// steer takes over an assignment, or the world it is carried out in. An assignment that cannot be carried out changes
// nothing: the course goes on.
func (l *loop) steer(ctx context.Context, assigned *Assignment, world *catalog.World) {
	next, refused := l.examine(ctx, assigned, world)
	l.state.refused = refused
	switch {
	case refused != nil || l.state.gaveUp(assigned):
		l.abandon(ctx)
		if l.course == nil {
			return
		}
		if next, refused = l.examine(ctx, l.course.assignment, world); refused == nil {
			l.adjust(l.course, next)
		}
	case l.trial != nil && l.trial.assignment == assigned:
		l.adjust(l.trial, next)
	case l.trial == nil && l.course != nil && sameSettings(l.course.assignment, assigned):
		l.course.assignment, l.state.applied = assigned, assigned
		l.adjust(l.course, next)
	default:
		l.abandon(ctx)
		if err := l.begin(ctx, assigned, next); err != nil {
			l.state.refused = &refusal{v1alpha1.ReasonBackendUnavailable, err.Error()}
		}
	}
}

// sameSettings says whether there is nothing to do to go from one assignment to another.
func sameSettings(a, b *Assignment) bool {
	return a == b || a.UID == b.UID && a.Revision == b.Revision && reflect.DeepEqual(a.Settings, b.Settings)
}

// adjust follows what a plan has become because the world has changed.
func (l *loop) adjust(c *course, next settings.Plan) {
	next.Cross(l.crossing)
	l.noteDifferences(&c.plan, &next)
	c.plan = next
	if c.engine != nil {
		c.engine.configure(&next)
	}
}

func (l *loop) noteDifferences(before, after *settings.Plan) {
	if !slices.Equal(before.NodePortAddresses, after.NodePortAddresses) ||
		!slices.Equal(before.Node.ServiceCIDRs, after.Node.ServiceCIDRs) {
		l.flows.NoteAll()
	}
	l.parametersDue = l.parametersDue || !slices.Equal(before.Kernel, after.Kernel)
}

// begin starts a trial. Settings of the mode that runs are written in place, another mode beside it.
func (l *loop) begin(ctx context.Context, assigned *Assignment, next settings.Plan) error {
	trial := &course{assignment: assigned, plan: next}
	if l.course != nil && l.course.plan.Mode == next.Mode {
		trial.engine = l.course.engine
	} else {
		e, err := l.open(&next)
		if err != nil {
			return err
		}
		trial.engine, trial.fresh = e, true
	}
	if l.course != nil {
		trial.passing = l.prober.Passing(ctx, l.table, probe.Targets(assigned.Settings.Probes))
	}
	l.noteDifferences(l.plan(), &next)
	l.trial, l.attempts = trial, 0
	l.cross(trial.fresh && l.otherThere(ctx, next.Mode))
	return nil
}

// otherThere says whether rules of the other mode than one are in the kernel. Where that cannot be found out they may be.
func (l *loop) otherThere(ctx context.Context, mode v1alpha1.Mode) bool {
	if l.course != nil {
		return l.course.plan.Mode != mode
	}
	there, err := mode == v1alpha1.ModeIPTables, error(nil)
	if there {
		there, err = ipvs.Holds(ctx, l.tools)
	}
	return there || err != nil
}

// cross notes whether rules of both modes are in the kernel, and has engines mind it from the next write on.
func (l *loop) cross(both bool) {
	l.crossing = both
	for _, c := range []*course{l.course, l.trial} {
		if c != nil && c.engine != nil {
			c.plan.Cross(both)
			c.engine.configure(&c.plan)
		}
	}
}

// errUnstable says that what was written was not there when it was read back.
var errUnstable = errors.New("what was written to the kernel is not what it holds a moment later; somebody else changes it")

// prove finds out whether a trial holds, and makes it the course of the node.
func (l *loop) prove(ctx context.Context, written *effect) error {
	moves := l.course != nil && l.course.engine != l.trial.engine
	if l.course != nil {
		if err := l.readBack(ctx, written); err != nil {
			return err
		}
	}
	if moves && l.course.engine != nil {
		retirement, err := l.course.engine.leave(ctx)
		if err != nil {
			return fmt.Errorf("leaving mode %s: %w", l.course.plan.Mode, err)
		}
		l.course.engine = nil
		l.retire(retirement)
	}
	if l.course == nil {
		if err := l.clearOther(ctx); err != nil {
			return err
		}
	}
	if l.crossing {
		l.cross(false)
		alone, err := l.trial.engine.Apply(ctx, nil)
		written.add(alone)
		if err != nil {
			return err
		}
	}
	if err := l.prober.Check(ctx, l.table, l.trial.passing); err != nil {
		return err
	}
	l.course, l.trial, l.state.drifted = l.trial, nil, nil
	l.state.applied = l.course.assignment
	if l.state.applied == l.state.assignment {
		l.state.rolledBack = nil
	}
	return nil
}

// readBack sees that the kernel holds what was written.
func (l *loop) readBack(ctx context.Context, written *effect) error {
	for range 2 {
		differed, err := l.trial.engine.Verify(ctx)
		written.add(differed)
		if err != nil || differed.changes == 0 {
			return err
		}
	}
	return errUnstable
}

// clearOther removes what an agent before this one left of the mode that this one does not run.
func (l *loop) clearOther(ctx context.Context) error {
	if l.trial.plan.Mode == v1alpha1.ModeIPVS {
		if err := iptables.New(l.tools, l.trial.plan.IPTables).Remove(ctx); err != nil {
			return fmt.Errorf("removing what was left of mode %s: %w", v1alpha1.ModeIPTables, err)
		}
		return nil
	}
	var retirement *ipvs.Retirement
	var err error
	if timeout := l.trial.plan.DrainTimeout; l.crossing {
		retirement, err = ipvs.Retire(ctx, l.tools, l.clock, timeout)
	} else { // otherwise all rules would be listed once more
		retirement, err = ipvs.RetireServers(ctx, l.clock, timeout)
	}
	if err != nil {
		return fmt.Errorf("removing what was left of mode %s: %w", v1alpha1.ModeIPVS, err)
	}
	l.retire(retirement)
	return nil
}

// retire takes over the connections of a mode that was left.
func (l *loop) retire(r *ipvs.Retirement) {
	if r == nil {
		return
	}
	if l.retirement != nil {
		_ = l.retirement.Close() // this one has everything that is left
	}
	l.retirement = r
}

// giveUp takes a trial back that has failed too often, where there is something to return to, and says whether it did.
func (l *loop) giveUp(ctx context.Context, err error) bool {
	if l.trial == nil {
		return false
	}
	reason, final := verdict(err)
	if l.attempts++; l.attempts < attempts && !final {
		return false
	}
	switch {
	case l.course != nil:
		l.state.rolledBack = &rollback{l.trial.assignment, refusal{reason, err.Error()}}
		l.state.failed = nil
		l.abandon(ctx)
		return true
	case l.trial.assignment != l.state.assignment:
		l.distrust()
	}
	return false
}

// verdict is the reason of condition RolledBack for an error of a trial, and whether another attempt is of no use.
func verdict(err error) (reason string, final bool) {
	if _, failed := errors.AsType[*probe.FailedError](err); failed {
		return v1alpha1.ReasonProbeFailed, true
	}
	if errors.Is(err, errUnstable) {
		return v1alpha1.ReasonVerifyFailed, true
	}
	return v1alpha1.ReasonApplyFailed, false
}

// abandon returns to the course that the node had before a trial. It takes effect with the next write.
func (l *loop) abandon(ctx context.Context) {
	if l.trial == nil || l.course == nil {
		return
	}
	trial := l.trial
	l.trial, l.recomputeDue, l.retry = nil, true, 0
	l.noteDifferences(&trial.plan, &l.course.plan)
	switch {
	case trial.engine == l.course.engine:
		l.course.engine.configure(&l.course.plan)
		return
	case l.course.engine == nil:
		e, err := l.open(&l.course.plan)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Returning to the settings before failed; those that were tried stay")
			l.course = trial
			return
		}
		l.course.engine, l.course.fresh = e, true
		l.course.engine.configure(&l.course.plan)
		if _, err := l.apply(ctx, nil); err != nil {
			klog.FromContext(ctx).Error(err, "Returning to the settings before is not complete yet")
		}
	}
	retirement, err := trial.engine.leave(ctx)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Removing what was tried failed; it is removed when the agent starts again")
	}
	l.retire(retirement)
	l.cross(false)
}

// checked is whether a node supports some settings, and when that was found out.
type checked struct {
	mode      v1alpha1.Mode
	scheduler string
	refused   *refusal
	at        time.Time
}

// examine works out what an assignment comes to, or why this node cannot carry it out.
func (l *loop) examine(ctx context.Context, a *Assignment, world *catalog.World) (settings.Plan, *refusal) {
	if mode := a.Settings.Mode; mode != v1alpha1.ModeIPTables && mode != v1alpha1.ModeIPVS {
		return settings.Plan{}, &refusal{v1alpha1.ReasonUnsupportedMode, "spec.mode: this agent does not know " + string(mode) + "; upgrade the agent"}
	}
	again := l.checked.refused != nil && l.clock.Since(l.checked.at) >= longestRetry
	if l.tools == nil || again && l.checked.refused.reason == v1alpha1.ReasonBackendUnavailable { // a module may have been loaded
		tools, err := xtables.Probe(ctx)
		if err != nil {
			return settings.Plan{}, &refusal{v1alpha1.ReasonBackendUnavailable, err.Error()}
		}
		l.useTools(tools)
	}
	next, err := settings.Resolve(&a.Settings, world, l.machine)
	if err != nil {
		return settings.Plan{}, &refusal{v1alpha1.ReasonInvalidSettings, err.Error()}
	}
	if next.Addresses, err = l.ownAddresses(&next); err != nil {
		return settings.Plan{}, &refusal{v1alpha1.ReasonBackendUnavailable, err.Error()}
	}
	known := l.checked.mode == next.Mode && l.checked.scheduler == next.IPVS.Scheduler
	if !known || again {
		l.checked = checked{next.Mode, next.IPVS.Scheduler, l.supports(ctx, &next), l.clock.Now()}
		l.state.noteSupport(next.Mode, l.checked.refused)
	}
	return next, l.checked.refused
}

// probeAhead finds out what this node can do, and what its kernel holds, while the API server sends what there is. Should that
// fail it is tried again, and told, when it is needed.
func (l *loop) probeAhead(ctx context.Context) {
	if l.tools != nil || l.probed {
		return
	}
	l.probed = true
	if tools, err := xtables.Probe(ctx); err == nil {
		l.useTools(tools)
		tools.ReadAhead(ctx)
	}
}

func (l *loop) useTools(tools *xtables.Tools) {
	l.tools = tools
	l.state.backend = v1alpha1.IPTablesBackend(tools.Backend)
}

// prepare sets the parameters without which what is written next would not work.
func (l *loop) prepare(p *settings.Plan) error {
	if _, err := conntrack.Apply(l.hostRoot, p.First); err != nil {
		return fmt.Errorf("setting the parameters that mode %s needs: %w", p.Mode, err)
	}
	return nil
}
