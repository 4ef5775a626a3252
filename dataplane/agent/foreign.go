package agent

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/foreignproxy"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
)

// foreign is what was found of another Service proxy, and why not everything could be looked at.
type foreign struct {
	found *foreignproxy.Found
	err   error
}

// lookForOthers looks for another Service proxy where that is due: at the start, and as often as everything is verified. It
// returns how long it is until the next time.
func (l *loop) lookForOthers(ctx context.Context) time.Duration {
	interval := l.plan().Pace.FullInterval
	if interval == 0 {
		interval = settings.DefaultFullInterval
	}
	now := l.clock.Now()
	if wait := l.lookedAt.Add(interval).Sub(now); wait > 0 {
		return wait
	}
	found, err := foreignproxy.Look(ctx, l.hostRoot)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Not everything could be looked at")
	}
	l.lookedAt, l.state.foreign = now, &foreign{found, err}
	return interval
}

// condition is condition ForeignProxy.
func (f *foreign) condition() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionForeignProxy, Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonNoForeignRules, Message: f.found.String()}
	switch {
	case len(f.found.Rules) > 0:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonKubeProxyRulesFound
	case f.err != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, v1alpha1.ReasonPending, shorten(f.err.Error())
	}
	return c
}
