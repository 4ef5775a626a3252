package status

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// Reasons of problems that no condition tells.
const (
	// notObserved is the reason of a pool whose spec the operator has not looked at.
	notObserved = "NotObserved"
	// silent is the reason of a node whose agent says nothing of what it was given.
	silent = "Silent"
)

// patience is how long an agent may take to say something of what it was given before it is a problem.
const patience = time.Minute

func notObservedMessage(config *v1alpha1.ServiceProxyConfig) string {
	if config.Status.ObservedGeneration < 0 {
		return "the operator has not looked at it yet; if that lasts, it does not run"
	}
	return fmt.Sprintf("the operator has not looked at generation %d yet; if that lasts, it does not run", config.Generation)
}

// poolProblems returns what is wrong with a pool.
func poolProblems(config *v1alpha1.ServiceProxyConfig, namespace string) []Problem {
	conditions, name := config.Status.Conditions, config.Name
	ready := observed(conditions, v1alpha1.ConditionReady, config.Generation)
	problem := Problem{Pool: name}
	switch {
	case ready == nil:
		problem.Severity, problem.Reason, problem.Message = Warning, notObserved, notObservedMessage(config)
		problem.Next = []string{"kubectl -n " + namespace + " get deployment service-proxy-operator"}
	case ready.Status == metav1.ConditionTrue:
		shared := observed(conditions, v1alpha1.ConditionConflicted, config.Generation)
		if shared == nil || shared.Status != metav1.ConditionTrue {
			return nil
		}
		problem.Severity, problem.Reason, problem.Message = Warning, shared.Reason, shared.Message
		problem.Next = []string{"kubectl edit spc " + name + "  # another priority or selector"}
	default:
		problem.Reason, problem.Message = ready.Reason, ready.Message
		problem.Severity, problem.Next = notReady(config)
	}
	return []Problem{problem}
}

// notReady says how bad it is that a pool is not Ready, and what helps.
func notReady(config *v1alpha1.ServiceProxyConfig) (Severity, []string) {
	name, status := config.Name, &config.Status
	const plugin = "kubectl serviceproxy "
	stalled := observed(status.Conditions, v1alpha1.ConditionStalled, config.Generation)
	if stalled == nil {
		going := observed(status.Conditions, v1alpha1.ConditionReconciling, config.Generation)
		switch {
		case going == nil:
			return Warning, []string{plugin + "resume " + name}
		case going.Reason == v1alpha1.ReasonWaitingForNodes:
			return Warning, nil
		default:
			return Progress, []string{plugin + "status --watch"}
		}
	}
	var next []string
	if len(status.FailedNodes) > 0 {
		next = append(next, plugin+"why "+status.FailedNodes[0].Name)
	}
	switch stalled.Reason {
	case v1alpha1.ReasonRolloutHalted, v1alpha1.ReasonRolledBack:
		if status.CurrentRevision != "" && status.CurrentRevision != status.UpdateRevision {
			next = append(next, plugin+"rollback "+name+"  # to "+status.CurrentRevision)
		}
		next = append(next, plugin+"retry "+name+"  # when the cause is gone")
	case v1alpha1.ReasonNodesFailed:
		next = append(next, plugin+"retry "+name+"  # when the cause is gone")
	case v1alpha1.ReasonGuardNotEnforced:
		next = append(next, "kubectl describe validatingadmissionpolicy service-proxy-agent-guard")
	default:
		next = append(next, "kubectl edit spc "+name)
	}
	return Error, next
}

// finding is a kind of problem of nodes. None is the zero value.
type finding struct {
	severity Severity
	reason   string
}

// examine returns the worst that is wrong with a node, and what its agent says of it.
func examine(object *v1alpha1.ServiceProxyNode, now time.Time) (finding, string) {
	if object.Status.ObservedGeneration != object.Generation {
		if now.Sub(assignedAt(object)) < patience {
			return finding{}, ""
		}
		if object.Status.ObservedGeneration < 0 {
			return finding{Warning, silent}, "no agent has reported: is its Pod running?"
		}
		return finding{Warning, silent}, "its agent has not said anything since it was given revision " + object.Spec.Revision
	}
	for _, sign := range []struct {
		kind     string
		status   metav1.ConditionStatus
		severity Severity
	}{
		{v1alpha1.ConditionRolledBack, metav1.ConditionTrue, Error},
		{v1alpha1.ConditionAccepted, metav1.ConditionFalse, Error},
		{v1alpha1.ConditionProgrammed, metav1.ConditionFalse, Error},
		{v1alpha1.ConditionReady, metav1.ConditionFalse, Error},
		{v1alpha1.ConditionHeldBack, metav1.ConditionTrue, Warning},
		{v1alpha1.ConditionDrifted, metav1.ConditionTrue, Warning},
		{v1alpha1.ConditionForeignProxy, metav1.ConditionTrue, Note},
	} {
		condition := observed(object.Status.Conditions, sign.kind, object.Generation)
		if condition == nil || condition.Status != sign.status {
			continue
		}
		if condition.Reason == v1alpha1.ReasonPending {
			// The first sync is on its way. It is a problem only if it takes long.
			if now.Sub(condition.LastTransitionTime.Time) < patience {
				continue
			}
			return finding{Warning, condition.Reason}, condition.Message
		}
		return finding{sign.severity, condition.Reason}, condition.Message
	}
	return finding{}, ""
}

// assignedAt is when a node was given what it has.
func assignedAt(object *v1alpha1.ServiceProxyNode) time.Time {
	at, err := time.Parse(time.RFC3339, object.Annotations[planner.AnnotationAssigned])
	if err != nil {
		return object.CreationTimestamp.Time
	}
	return at
}

// nodeNext returns the commands that help with a node.
func nodeNext(found finding, node, namespace string) []string {
	why := "kubectl serviceproxy why " + node
	agents := fmt.Sprintf("kubectl -n %s get pods --field-selector spec.nodeName=%s", namespace, node)
	switch found.reason {
	case silent, v1alpha1.ReasonPending:
		return []string{agents, why}
	case v1alpha1.ReasonKubeProxyRulesFound:
		return []string{why + "  # says whether kube-proxy runs"}
	default:
		return []string{why}
	}
}
