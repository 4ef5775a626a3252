package planner

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// AnnotationAssigned on a ServiceProxyNode is when its settings took the place of others, as RFC 3339. It is not there
// as long as a node has the first that it was given. The status alone cannot tell: an agent that is quick is in sync
// before and after, and its conditions do not change.
const AnnotationAssigned = "serviceproxy.io/assigned-at"

// AnnotationWanted on a ServiceProxyNode is which other config selects its node and since when, as NAME/TIME with the
// time as RFC 3339, until the node changes over. Without a name no config does any more.
const AnnotationWanted = "serviceproxy.io/wanted-by"

// Annotations are the keys of everything that the planner notes on ServiceProxyNodes.
func Annotations() []string {
	return []string{AnnotationAssigned, AnnotationWanted, v1alpha1.AnnotationRetry}
}

// member is a node of a pool, and what became of the settings that it was given last.
type member struct {
	node     Node
	object   *v1alpha1.ServiceProxyNode // nil if it has none
	replaces types.UID

	// revision names what it is assigned; empty if it has nothing to lose, because no agent has ever looked at what it
	// was given, or because it gave it back.
	revision string
	// owned says that what it is assigned comes from the pool.
	owned bool
	// changed says that it ran something else before.
	changed bool
	// updated says that its kernel runs what it is assigned, and inSync that this is what Services say as well.
	updated, inSync bool
	// since is when it was given its settings, or got in or out of sync with them, whichever was later.
	since time.Time
	// gone says that its Node is not Ready for longer than it is waited for.
	gone bool
	// proven says that it has been in sync for long enough to be relied on.
	proven bool
	// failure is what went wrong, or nil. A verdict will not change by itself: the node does not take these settings.
	// While it is trying, its agent goes on until it succeeds, takes them back, or its time is over.
	failure  *v1alpha1.FailedNode
	reported bool // by its agent, and not for want of a report
	verdict  bool
	trying   bool
	// broken says that its kernel runs what it is assigned, and packets do not get through Services all the same.
	broken bool
	// stale says that it failed before somebody asked for another try.
	stale bool
	// moves is what it is given now, and empty if it keeps what it has.
	moves string
}

// available tells whether Services work on the node as far as anybody knows.
func (m *member) available() bool { return m.proven && m.node.Ready && !m.node.AgentDown }

// observe finds out what became of a node.
//
// What the agent said of an earlier assignment says nothing of this one, so only what it reports for the current
// generation of its object counts.
func (p *pool) observe(m *member, plan *Plan) {
	now := p.world.Now.Time
	if !m.node.Ready {
		until := m.node.Since.Add(p.rollout.timeout)
		m.gone = m.node.Since.IsZero() || !now.Before(until)
	}
	if !p.holds(m) {
		return
	}
	object := m.object
	m.updated = object.Status.ObservedGeneration == object.Generation && object.Status.AppliedRevision == m.revision
	m.inSync = m.updated && isReported(object, v1alpha1.ConditionReady, metav1.ConditionTrue) != nil
	m.broken = m.updated && isBroken(object)
	m.since = assignedAt(object)
	if ready := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		m.since = later(m.since, ready.LastTransitionTime.Time)
	}
	m.failure, m.verdict = failure(object)
	m.reported = m.failure != nil
	m.trying = m.changed && !m.updated && m.reported && !m.verdict
	switch proven := m.since.Add(p.rollout.minReady); {
	case m.inSync && m.changed && now.Before(proven):
		plan.again(proven, now)
	case m.inSync:
		m.proven = true
	case m.failure == nil || m.trying:
		p.timeOut(m, plan)
	}
	m.stale = m.verdict && m.owned && object.Annotations[v1alpha1.AnnotationRetry] != p.retry()
}

// holds finds out what a node is assigned, and whether it has anything to lose.
func (p *pool) holds(m *member) bool {
	if m.object == nil || m.object.Spec.Action == v1alpha1.ActionRelease {
		return false
	}
	revision := m.object.Spec.Revision
	ours := revision == p.update || revision == p.current
	_, m.changed = m.object.Annotations[AnnotationAssigned]
	if m.object.Status.ObservedGeneration < 0 && !m.changed && !ours {
		return false
	}
	m.revision, m.owned = revision, ours || m.object.Spec.ConfigRef.Name == p.config.Name
	return true
}

// timeOut gives up waiting for a node that had its time. Time in which the Node was not Ready does not count.
func (p *pool) timeOut(m *member, plan *Plan) {
	if !m.node.Ready || m.since.IsZero() {
		return
	}
	now, until := p.world.Now.Time, later(m.since, m.node.Since.Time).Add(p.rollout.timeout)
	if now.Before(until) {
		plan.again(until, now)
		return
	}
	message := fmt.Sprintf("not in sync after %s", p.rollout.timeout)
	if ready := meta.FindStatusCondition(m.object.Status.Conditions, v1alpha1.ConditionReady); ready == nil {
		message += "; no agent has reported yet"
	} else if m.object.Status.ObservedGeneration != m.object.Generation {
		message += "; the agent has not reported since it was given revision " + m.revision
	} else {
		message += fmt.Sprintf("; the agent says %s: %s", ready.Reason, ready.Message)
	}
	m.failure = &v1alpha1.FailedNode{
		Name: m.node.Name, Reason: v1alpha1.ReasonTimedOut, Message: shorten(message, maxMessage),
	}
	m.verdict, m.trying = true, false
}

// failure returns what a node reports to have failed with, or nil, and whether that is its last word. A kernel that
// refuses a write is tried again by the agent, until it succeeds or the agent takes the settings back.
func failure(object *v1alpha1.ServiceProxyNode) (failed *v1alpha1.FailedNode, verdict bool) {
	for _, sign := range []struct {
		kind    string
		status  metav1.ConditionStatus
		verdict bool
	}{
		{v1alpha1.ConditionAccepted, metav1.ConditionFalse, true},
		{v1alpha1.ConditionRolledBack, metav1.ConditionTrue, true},
		{v1alpha1.ConditionProgrammed, metav1.ConditionFalse, false},
	} {
		if condition := isReported(object, sign.kind, sign.status); condition != nil {
			return &v1alpha1.FailedNode{
				Name:    object.Name,
				Reason:  shorten(condition.Reason, maxReason),
				Message: shorten(condition.Message, maxMessage),
			}, sign.verdict
		}
	}
	return nil, false
}

// isReported returns the condition if the agent reported it with this status for the current generation.
func isReported(object *v1alpha1.ServiceProxyNode, kind string, status metav1.ConditionStatus) *metav1.Condition {
	condition := meta.FindStatusCondition(object.Status.Conditions, kind)
	if condition == nil || condition.Status != status || condition.ObservedGeneration != object.Generation {
		return nil
	}
	return condition
}

// isBroken tells whether the agent reported that Services do not work although everything is in the kernel.
func isBroken(object *v1alpha1.ServiceProxyNode) bool {
	ready := isReported(object, v1alpha1.ConditionReady, metav1.ConditionFalse)
	return ready != nil && ready.Reason == v1alpha1.ReasonDataPathBroken
}

// assignedAt returns when a node was given what it has.
func assignedAt(object *v1alpha1.ServiceProxyNode) time.Time {
	at, err := time.Parse(time.RFC3339, object.Annotations[AnnotationAssigned])
	if err != nil {
		return object.CreationTimestamp.Time
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// keep returns the assignment of a node that keeps what it has, as it was meant: what somebody else wrote into it is
// put right as far as that is known.
func (p *pool) keep(m *member) Assignment {
	spec := m.object.Spec
	if m.owned {
		spec.ConfigRef.Name = p.config.Name
		if settings := p.settings(m.revision); settings != nil {
			spec.ProxySettings, spec.Action = *settings, ""
		}
	}
	return Assignment{
		Config: p.config.Name, Node: m.node.Name, UID: m.node.UID, Spec: spec, Annotations: m.annotations(""),
	}
}

// give returns the assignment of a node that is given a revision. One that ran something before is given it as a change.
func (p *pool) give(m *member) Assignment {
	a := Assignment{
		Config: p.config.Name, Node: m.node.Name, UID: m.node.UID, Replaces: m.replaces,
		Spec: v1alpha1.ServiceProxyNodeSpec{
			ConfigRef:     v1alpha1.ConfigReference{Name: p.config.Name, Generation: new(p.config.Generation)},
			Revision:      m.moves,
			ProxySettings: *p.settings(m.moves),
		},
		Annotations: map[string]string{},
	}
	if retry := p.retry(); retry != "" {
		a.Annotations[v1alpha1.AnnotationRetry] = retry
	}
	if m.revision != "" {
		a.Annotations[AnnotationAssigned] = p.world.Now.UTC().Format(time.RFC3339)
	}
	if m.stale && m.moves == m.revision {
		a.Replaces = m.object.UID
	}
	return a
}

// annotations returns those of the planner on the object of a node that keeps what it has.
func (m *member) annotations(wanted string) map[string]string {
	kept := map[string]string{}
	for _, key := range []string{AnnotationAssigned, v1alpha1.AnnotationRetry} {
		if value, exists := m.object.Annotations[key]; exists {
			kept[key] = value
		}
	}
	if wanted != "" {
		kept[AnnotationWanted] = wanted
	}
	return kept
}
