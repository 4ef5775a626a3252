package planner

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// maxFailedNodes is the number of failed nodes that a status names. A status must not grow with the cluster.
const maxFailedNodes = 10

// status returns everything that the pool has to report once its nodes have been dealt out.
func (p *pool) status() v1alpha1.ServiceProxyConfigStatus {
	counts := v1alpha1.NodeCounts{
		Matched: &p.matched, Overridden: &p.overridden, Conflicted: &p.conflicted,
		Assigned: new(int32(len(p.members))), Updated: new(int32), Ready: new(int32), Unavailable: new(int32),
		Failed: new(int32(len(p.phase.failures))),
	}
	for _, m := range p.members {
		if !m.node.Ready {
			*counts.Unavailable++
		}
		if m.moves == "" && m.updated && m.revision == p.update {
			*counts.Updated++
			if m.inSync && m.failure == nil {
				*counts.Ready++
			}
		}
	}
	p.ready = int(*counts.Ready)
	status := v1alpha1.ServiceProxyConfigStatus{
		ObservedGeneration: p.config.Generation,
		CurrentRevision:    p.current,
		UpdateRevision:     p.update,
		Halted:             p.halted,
		Nodes:              &counts,
		FailedNodes:        p.phase.failures,
		Conditions:         p.conditions(p.world.Now),
	}
	if p.halted != nil {
		p.remember(&status)
	}
	status.FailedNodes = status.FailedNodes[:min(len(status.FailedNodes), maxFailedNodes)]
	return status
}

// remember adds the nodes because of which a rollout was halted. They may be back in order, and are still the reason.
func (p *pool) remember(status *v1alpha1.ServiceProxyConfigStatus) {
	before := &p.config.Status
	if before.Halted == nil || before.Halted.Revision != p.halted.Revision || before.Halted.Retry != p.halted.Retry {
		return
	}
	failed := slices.Clone(status.FailedNodes)
	for _, node := range before.FailedNodes {
		if !slices.ContainsFunc(failed, func(f v1alpha1.FailedNode) bool { return f.Name == node.Name }) {
			failed = append(failed, node)
		}
	}
	slices.SortFunc(failed, func(a, b v1alpha1.FailedNode) int { return cmp.Compare(a.Name, b.Name) })
	status.FailedNodes = failed
	*status.Nodes.Failed = int32(len(failed))
	if before.Nodes != nil && before.Nodes.Failed != nil {
		*status.Nodes.Failed = max(*status.Nodes.Failed, *before.Nodes.Failed)
	}
}

// conditions returns the conditions of the config, Ready first. A condition whose status is what it was keeps the
// time of its last transition.
func (p *pool) conditions(now metav1.Time) []metav1.Condition {
	conditions := append(p.summary(), p.accepted(), p.conflict())
	for i := range conditions {
		condition := &conditions[i]
		condition.ObservedGeneration = p.config.Generation
		condition.Message = shorten(condition.Message, maxMessage)
		condition.LastTransitionTime = now
		before := meta.FindStatusCondition(p.config.Status.Conditions, condition.Type)
		if before != nil && before.Status == condition.Status {
			condition.LastTransitionTime = before.LastTransitionTime
		}
	}
	return conditions
}

func (p *pool) accepted() metav1.Condition {
	if p.invalid != nil {
		return metav1.Condition{
			Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse,
			Reason: v1alpha1.ReasonInvalidSelector, Message: p.invalidMessage(),
		}
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonValid, Message: "the spec is valid",
	}
}

func (p *pool) conflict() metav1.Condition {
	if len(p.shared) > 0 {
		return metav1.Condition{
			Type: v1alpha1.ConditionConflicted, Status: metav1.ConditionTrue,
			Reason: v1alpha1.ReasonEqualPriorityOverlap, Message: p.sharedMessage(),
		}
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionConflicted, Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonNoOverlap, Message: "no other config of this priority selects the same nodes",
	}
}

// summary returns Ready and, while it is False, the one condition that tells tools whether to go on waiting:
// Reconciling when nodes are on their way, Stalled when somebody has to act. A rollout that is paused is neither.
func (p *pool) summary() []metav1.Condition {
	phase := &p.phase
	switch {
	case p.invalid != nil:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonNotAccepted, p.invalidMessage())
	case p.world.Hold != "":
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonGuardNotEnforced, p.world.Hold)
	case p.halted != nil && p.halted.OnFailure == v1alpha1.OnFailureRollback:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonRolledBack, p.rolledBackMessage())
	case p.halted != nil:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonRolloutHalted, p.stoppedMessage())
	case len(phase.failures) > 0 && !phase.rolling:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonNodesFailed, p.failedMessage())
	case len(p.lost) > 0:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonConflicted, p.lostMessage())
	case len(phase.pending) > 0 && p.isPaused():
		return notReady(v1alpha1.ConditionReady, v1alpha1.ReasonRolloutPaused, p.pausedMessage())[:1]
	case len(phase.pending) > 0 || len(phase.waiting) > 0:
		conditions := notReady(v1alpha1.ConditionReconciling, v1alpha1.ReasonRollingOut, p.waitingMessage())
		conditions[1].Reason = p.reconciling()
		return conditions
	case len(p.members) == 0:
		return ready(v1alpha1.ReasonNoMatchingNodes, p.noNodesMessage())
	default:
		return ready(v1alpha1.ReasonAllNodesReady, p.readyMessage())
	}
}

// reconciling returns what a rollout is busy with.
func (p *pool) reconciling() string {
	switch phase := &p.phase; {
	case phase.isStuck():
		return v1alpha1.ReasonWaitingForNodes
	case phase.canary && len(phase.pending) > 0:
		return v1alpha1.ReasonCanary
	default:
		return v1alpha1.ReasonRollingOut
	}
}

func ready(reason, message string) []metav1.Condition {
	return []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: reason, Message: message,
	}}
}

func notReady(abnormal, reason, message string) []metav1.Condition {
	return []metav1.Condition{
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message},
		{Type: abnormal, Status: metav1.ConditionTrue, Reason: reason, Message: message},
	}
}
