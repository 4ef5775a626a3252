package planner

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// maxFailedNodes is the number of failed nodes that a status names. A status must not grow with the cluster.
const maxFailedNodes = 10

// status returns everything that the pool has to report once all nodes are dealt out.
func (p *pool) status(now metav1.Time) v1alpha1.ServiceProxyConfigStatus {
	unavailable, failed := int32(len(p.unavailable)), int32(len(p.failures))
	return v1alpha1.ServiceProxyConfigStatus{
		ObservedGeneration: p.config.Generation,
		UpdateRevision:     p.revision,
		Nodes: &v1alpha1.NodeCounts{
			Matched:     &p.matched,
			Overridden:  &p.overridden,
			Conflicted:  &p.conflicted,
			Assigned:    &p.assigned,
			Updated:     &p.updated,
			Ready:       &p.ready,
			Unavailable: &unavailable,
			Failed:      &failed,
		},
		FailedNodes: p.failures[:min(len(p.failures), maxFailedNodes)],
		Conditions:  p.conditions(now),
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
// Reconciling when nodes are on their way, Stalled when somebody has to act.
func (p *pool) summary() []metav1.Condition {
	switch {
	case p.invalid != nil:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonNotAccepted, p.invalidMessage())
	case p.hold != "":
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonGuardNotEnforced, p.hold)
	case len(p.failures) > 0:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonNodesFailed, p.failedMessage())
	case len(p.lost) > 0:
		return notReady(v1alpha1.ConditionStalled, v1alpha1.ReasonConflicted, p.lostMessage())
	case len(p.waiting) > 0:
		return notReady(v1alpha1.ConditionReconciling, v1alpha1.ReasonRollingOut, p.waitingMessage())
	case p.assigned == 0:
		return ready(v1alpha1.ReasonNoMatchingNodes, p.noNodesMessage())
	default:
		return ready(v1alpha1.ReasonAllNodesReady, p.readyMessage())
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
