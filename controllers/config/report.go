package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	applyv1alpha1 "github.com/serviceproxy/service-proxy-operator/api/applyconfiguration/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// reportInterval is the shortest time between two writes of the status of one config in which only numbers and texts
// change. Hundreds of nodes that get ready one by one are hundreds of changes that nobody can read.
const reportInterval = 2 * time.Second

// reported is what became of the statuses of a plan.
type reported struct {
	// due is after what time those that had to wait are to be written, or 0.
	due time.Duration
	// missing are the configs whose status could not be written.
	missing map[string]bool
}

// based leaves out the assignments that are based on what a status should remember and does not.
func (r reported) based(assignments []planner.Assignment) []planner.Assignment {
	if len(r.missing) == 0 {
		return assignments
	}
	return slices.DeleteFunc(slices.Clone(assignments), func(a planner.Assignment) bool { return r.missing[a.Config] })
}

// report writes the statuses that are not as planned. The error joins those of all configs that failed.
func (r *Reconciler) report(
	ctx context.Context, configs []v1alpha1.ServiceProxyConfig, statuses map[string]v1alpha1.ServiceProxyConfigStatus,
) (reported, error) {
	maps.DeleteFunc(r.reported, func(config string, _ time.Time) bool {
		_, exists := statuses[config]
		return !exists
	})
	result := reported{missing: map[string]bool{}}
	var errs []error
	for i := range configs {
		config := &configs[i]
		status := statuses[config.Name]
		if isReported(config.Status, status) {
			continue
		}
		wait := r.reported[config.Name].Add(reportInterval).Sub(r.Clock.Now())
		if wait > 0 && !isNews(config.Status, status) {
			result.due = earliest(result.due, wait)
			continue
		}
		err := r.writeStatus(ctx, config, status)
		r.Metrics.reported(err)
		if err == nil {
			r.reported[config.Name] = r.Clock.Now()
			r.announce(ctx, config, status)
			continue
		}
		result.missing[config.Name] = true
		if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, err)
		} // else it was deleted, and perhaps made again: the event that says so is on its way
	}
	return result, errors.Join(errs...)
}

func earliest(due, wait time.Duration) time.Duration {
	if due == 0 {
		return wait
	}
	return min(due, wait)
}

// isReported tells whether two statuses say the same. The order of conditions says nothing.
func isReported(before, after v1alpha1.ServiceProxyConfigStatus) bool {
	before.Conditions, after.Conditions = sorted(before.Conditions), sorted(after.Conditions)
	return apiequality.Semantic.DeepEqual(before, after)
}

func sorted(conditions []metav1.Condition) []metav1.Condition {
	return slices.SortedFunc(slices.Values(conditions), func(a, b metav1.Condition) int {
		return strings.Compare(a.Type, b.Type)
	})
}

// isNews tells whether a status says something that people, tools or the next pass act on: it speaks of another
// generation, or of other revisions, or a condition came, went, or has another status or reason.
func isNews(before, after v1alpha1.ServiceProxyConfigStatus) bool {
	if before.ObservedGeneration != after.ObservedGeneration || len(before.Conditions) != len(after.Conditions) ||
		before.CurrentRevision != after.CurrentRevision || before.UpdateRevision != after.UpdateRevision ||
		!apiequality.Semantic.DeepEqual(before.Halted, after.Halted) {
		return true
	}
	return slices.ContainsFunc(after.Conditions, func(now metav1.Condition) bool {
		then := meta.FindStatusCondition(before.Conditions, now.Type)
		return then == nil || then.Status != now.Status || then.Reason != now.Reason
	})
}

func (r *Reconciler) writeStatus(
	ctx context.Context, config *v1alpha1.ServiceProxyConfig, status v1alpha1.ServiceProxyConfigStatus,
) error {
	reported := applyv1alpha1.ServiceProxyConfigStatus()
	if err := convert(status, reported); err != nil {
		return fmt.Errorf("rendering the status of ServiceProxyConfig %s: %w", config.Name, err)
	}
	// The UID keeps the status of a config that was deleted off another that took its name.
	object := applyv1alpha1.ServiceProxyConfig(config.Name).WithUID(config.UID).WithStatus(reported)
	err := r.Client.Status().Apply(ctx, object, client.FieldOwner(FieldOwner), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("applying the status of ServiceProxyConfig %s: %w", config.Name, err)
	}
	return nil
}

// announce makes an event when a config became Ready, or is Stalled for another reason than before.
func (r *Reconciler) announce(
	ctx context.Context, config *v1alpha1.ServiceProxyConfig, status v1alpha1.ServiceProxyConfigStatus,
) {
	then, now := outcome(config.Status), outcome(status)
	level := corev1.EventTypeNormal
	switch {
	case now == nil:
		return
	case now.Type == v1alpha1.ConditionStalled:
		if then != nil && then.Type == now.Type && then.Reason == now.Reason {
			return
		}
		level = corev1.EventTypeWarning
	case then != nil && then.Type == now.Type:
		return
	}
	r.Recorder.Eventf(config, nil, level, now.Reason, "RollOut", "%s", now.Message)
	klog.FromContext(ctx).Info("Config changed", "config", config.Name,
		"condition", now.Type, "reason", now.Reason, "message", now.Message)
}

// outcome returns the condition that ends a rollout, well or not: Ready or Stalled, whichever is True, or nil.
func outcome(status v1alpha1.ServiceProxyConfigStatus) *metav1.Condition {
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
		condition := meta.FindStatusCondition(status.Conditions, kind)
		if condition != nil && condition.Status == metav1.ConditionTrue {
			return condition
		}
	}
	return nil
}
