package agent

import (
	"context"
	"fmt"
	"io"
	"time"

	"k8s.io/klog/v2"

	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// release removes everything of ours from the node, and waits for connections that only IPVS knows of.
func (l *loop) release(ctx context.Context, assigned *Assignment) outcome {
	err := l.clear(ctx, settings.DrainTimeout(&assigned.Settings.IPVS))
	next := idle
	if err == nil && l.retirement != nil {
		next, err = l.stepRetirement(ctx)
	}
	if ctx.Err() != nil {
		return outcome{next: idle}
	}
	if l.state.failed = err; err != nil {
		klog.FromContext(ctx).Error(err, "Giving the node back failed", "retryIn", l.nextRetry())
		next = l.backOff()
	}
	if released := err == nil && l.retirement == nil; released != l.state.released {
		l.state.released = released
		klog.FromContext(ctx).Info("The node is given back; nothing of this agent is left on it")
	}
	l.stepped(ctx)
	return outcome{next: next}
}

// clear removes what is ours, in every mode, but what open connections need for as long as they may stay. It does so once.
func (l *loop) clear(ctx context.Context, drain time.Duration) error {
	if l.cleared {
		return nil
	}
	l.checks.close()
	l.checks = newHealthChecks(l.report.health.Healthy)
	if l.tools == nil {
		tools, err := xtables.Probe(ctx)
		if err != nil {
			return err
		}
		l.tools = tools
	}
	if err := iptables.Cleanup(ctx); err != nil {
		return fmt.Errorf("removing the rules: %w", err)
	}
	retirement, err := ipvs.Retire(ctx, l.tools, l.clock, drain)
	if err != nil {
		return fmt.Errorf("leaving IPVS: %w", err)
	}
	l.retire(retirement)
	for _, c := range []*course{l.trial, l.course} {
		if c == nil {
			continue
		}
		if open, is := c.engine.(io.Closer); is && (c == l.course || l.course == nil || c.engine != l.course.engine) {
			_ = open.Close() // what it wrote is gone already
		}
	}
	l.course, l.trial, l.cleared = nil, nil, true
	l.state = state{backend: l.state.backend, ipvs: l.state.ipvs, assignment: l.state.assignment, foreign: l.state.foreign,
		services: l.state.services, endpoints: l.state.endpoints}
	l.memory.forget(ctx)
	l.recollection.forget(ctx)
	return nil
}
