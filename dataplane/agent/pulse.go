package agent

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/probe"
)

// pulseInterval is the time between two looks at whether Services work from this node. In a cluster of 5,000 nodes the API
// servers together see 330 connections a second that are opened and closed again; a load balancer that asks /healthz
// every ten seconds hears of trouble with its second or third question.
const pulseInterval = 15 * time.Second

// pulse tries the API server and the probes of the pool through their Services all the time, beside the loop. That the
// kernel holds what it should does not say that packets get through: another firewall, a kernel parameter or a lost route
// can be in their way.
type pulse struct {
	prober *probe.Prober
	clock  clock.Clock
	// changed has a value when the answer is another than before.
	changed chan struct{}

	mu     sync.Mutex
	paths  []probe.Path
	broken []probe.Passed
	// tried says that something was tried and found broken since somebody followed.
	tried bool
}

func newPulse(prober *probe.Prober, clk clock.Clock) *pulse {
	return &pulse{prober: prober, clock: clk, changed: make(chan struct{}, 1)}
}

// run looks again and again until the context ends.
func (p *pulse) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.clock.After(pulseInterval):
		}
		p.mu.Lock()
		paths := p.paths
		p.mu.Unlock()
		broken := p.prober.Broken(ctx, paths)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		news := !slices.Equal(p.broken, broken) || len(broken) > 0
		p.broken, p.tried = broken, len(broken) > 0
		p.mu.Unlock()
		if news {
			select {
			case p.changed <- struct{}{}:
			default:
			}
		}
	}
}

// follow says where to look from now on, and returns which of these ways did not work when they were tried last, and
// whether that is new.
func (p *pulse) follow(paths []probe.Path) (broken []string, tried bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paths = paths
	tried, p.tried = p.tried, false
	for _, b := range p.broken {
		if slices.ContainsFunc(paths, func(path probe.Path) bool { return path.Passed == b }) {
			broken = append(broken, b.String())
		}
	}
	return broken, tried
}

// feelPulse takes over whether Services work from this node. As often as one is found not to, everything is compared with
// the kernel at once: the reason may be something that can be repaired.
func (l *loop) feelPulse(ctx context.Context) {
	var paths []probe.Path
	if l.course != nil && l.trial == nil && !l.cleared && !l.course.assignment.Release {
		paths = probe.Paths(l.table, probe.Targets(l.course.assignment.Settings.Probes))
	}
	broken, tried := l.pulse.follow(paths)
	if len(broken) > 0 && tried {
		l.verifyAt = l.clock.Now()
		l.guard.fullAt = l.verifyAt
	}
	switch was := len(l.state.broken) > 0; {
	case !was && len(broken) > 0:
		klog.FromContext(ctx).Info("Services do not work from this node, although their endpoints answer when asked directly",
			"services", broken)
	case was && len(broken) == 0:
		klog.FromContext(ctx).Info("Services work from this node again")
	}
	l.state.broken = broken
	l.report.health.SetBroken(strings.Join(broken, "; "))
}
