package handover

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
)

// teachKubeProxy makes kube-proxy avoid nodes with the label.
func (w *walker) teachKubeProxy() []step {
	name := "daemonset/" + w.kubeProxy.Name
	return []step{{
		does: fmt.Sprintf("make %s avoid nodes with label %s, which restarts it node by node", name, w.plan.Avoided),
		undo: fmt.Sprintf("kubectl -n %s rollout undo %s", w.kubeProxy.Namespace, name),
		do: func(ctx context.Context) (bool, error) {
			set := &appsv1.DaemonSet{}
			if err := w.api.Get(ctx, w.kubeProxy, set); err != nil {
				return false, fmt.Errorf("reading it: %w", err)
			}
			before := set.DeepCopy()
			teach(set, w.plan.Avoided)
			patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
			if err := w.api.Patch(ctx, set, patch, client.FieldOwner(access.FieldManager)); err != nil {
				return false, fmt.Errorf("changing it: %w", err)
			}
			return false, nil
		},
		wait: func(ctx context.Context) (bool, string, error) {
			set := &appsv1.DaemonSet{}
			if err := w.api.Get(ctx, w.kubeProxy, set); err != nil {
				return false, "", fmt.Errorf("reading it: %w", err)
			}
			s := &set.Status
			instead := fmt.Sprintf("%d of %d Pods are updated, %d available", s.UpdatedNumberScheduled, s.DesiredNumberScheduled, s.NumberAvailable)
			return s.ObservedGeneration >= set.Generation && s.UpdatedNumberScheduled == s.DesiredNumberScheduled &&
				s.NumberAvailable == s.DesiredNumberScheduled, instead, nil
		},
	}}
}

// takeOver hands a node over from kube-proxy: ours comes, kube-proxy goes, its rules go.
func (w *walker) takeOver(node string) []step {
	var steps []step
	if len(w.plan.Labels) > 0 {
		steps = append(steps, step{
			does: fmt.Sprintf("label it %s, so that pool %s selects it", join(w.plan.Labels), w.pool),
			undo: fmt.Sprintf("kubectl label node %s %s-", node, w.unlabel()),
			do:   func(ctx context.Context) (bool, error) { return w.labelNode(ctx, node, w.plan.Labels...) },
		})
	}
	steps = append(steps, step{
		does: "wait until our rules are there, beside those of kube-proxy",
		wait: func(ctx context.Context) (bool, string, error) {
			return w.hasReported(ctx, node, v1alpha1.ReasonSynced)
		},
	}, step{
		does: fmt.Sprintf("label it %s, so that kube-proxy leaves it", w.plan.Avoided),
		undo: fmt.Sprintf("kubectl label node %s %s-", node, w.plan.Avoided.Key),
		do:   func(ctx context.Context) (bool, error) { return w.labelNode(ctx, node, w.plan.Avoided) },
	}, step{
		does: "wait until kube-proxy has left",
		wait: func(ctx context.Context) (bool, string, error) {
			pod, err := w.kubeProxyOn(ctx, node)
			if err != nil || pod == nil {
				return err == nil, "", err
			}
			return false, "pod " + pod.Name + " is still there", nil
		},
	}, step{
		does: "look whether our rules are still in order",
		wait: func(ctx context.Context) (bool, string, error) {
			return w.hasReported(ctx, node, v1alpha1.ReasonSynced)
		},
	})
	clean := step{does: "remove the rules that kube-proxy has left", do: func(ctx context.Context) (bool, error) {
		return false, w.cleanUp(ctx, node)
	}}
	if !w.cleanup {
		clean = step{does: "leave the rules of kube-proxy: " + w.cleanUpCommand(node), do: func(context.Context) (bool, error) { return true, nil }}
	}
	return append(steps, clean)
}

// unlabel is the key of the label that a node loses if it is not to be selected any more.
func (w *walker) unlabel() string {
	if w.plan.Mark.Key != "" {
		return w.plan.Mark.Key
	}
	return w.plan.Labels[0].Key
}

// giveBack hands a node back to kube-proxy: kube-proxy comes, programs beside ours, and ours goes.
func (w *walker) giveBack(node string) []step {
	return []step{{
		does: fmt.Sprintf("take label %s from it, so that kube-proxy comes", w.plan.Avoided.Key),
		undo: fmt.Sprintf("kubectl label node %s %s", node, w.plan.Avoided),
		do: func(ctx context.Context) (bool, error) {
			return w.labelNode(ctx, node, Label{Key: w.plan.Avoided.Key})
		},
	}, {
		does: fmt.Sprintf("wait until kube-proxy is Ready for %s: Ready alone is no proof that it has written its rules", w.settle),
		wait: func(ctx context.Context) (bool, string, error) { return w.kubeProxyReady(ctx, node) },
	}, {
		does: fmt.Sprintf("take label %s from it, so that pool %s gives it back", w.plan.Mark.Key, w.pool),
		undo: fmt.Sprintf("kubectl label node %s %s", node, w.plan.Mark),
		do: func(ctx context.Context) (bool, error) {
			return w.labelNode(ctx, node, Label{Key: w.plan.Mark.Key})
		},
	}, {
		does: "wait until all of our rules are gone",
		wait: func(ctx context.Context) (bool, string, error) {
			return w.hasReported(ctx, node, v1alpha1.ReasonReleased)
		},
	}}
}

// hasReported tells whether the agent of a node says that it is Ready for a reason, of what it was given last.
func (w *walker) hasReported(ctx context.Context, node, reason string) (bool, string, error) {
	object := &v1alpha1.ServiceProxyNode{}
	err := w.api.Get(ctx, client.ObjectKey{Name: node}, object)
	if apierrors.IsNotFound(err) {
		return false, "the operator has not given it anything: kubectl serviceproxy why " + node, nil
	} else if err != nil {
		return false, "", fmt.Errorf("reading ServiceProxyNode %s: %w", node, err)
	}
	if object.Spec.ConfigRef.Name != w.pool {
		return false, fmt.Sprintf("pool %s has it: kubectl serviceproxy why %s", object.Spec.ConfigRef.Name, node), nil
	}
	ready := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.ObservedGeneration != object.Generation {
		return false, "its agent has not reported", nil
	}
	return ready.Status == metav1.ConditionTrue && ready.Reason == reason,
		fmt.Sprintf("Ready=%s %s: %s", ready.Status, ready.Reason, ready.Message), nil
}

// kubeProxyOn returns the Pod of kube-proxy on a node, or nil if there is none.
func (w *walker) kubeProxyOn(ctx context.Context, node string) (*corev1.Pod, error) {
	var pods corev1.PodList
	err := w.api.List(ctx, &pods, client.InNamespace(w.kubeProxy.Namespace), client.MatchingFields{"spec.nodeName": node})
	if err != nil {
		return nil, fmt.Errorf("looking for kube-proxy on node %s: %w", node, err)
	}
	for i := range pods.Items {
		owner := metav1.GetControllerOf(&pods.Items[i])
		if owner != nil && owner.Kind == "DaemonSet" && owner.Name == w.kubeProxy.Name {
			return &pods.Items[i], nil
		}
	}
	return nil, nil
}

// kubeProxyReady tells whether kube-proxy has been Ready on a node for long enough to have written its rules.
func (w *walker) kubeProxyReady(ctx context.Context, node string) (bool, string, error) {
	pod, err := w.kubeProxyOn(ctx, node)
	switch {
	case err != nil:
		return false, "", err
	case pod == nil || pod.DeletionTimestamp != nil:
		return false, "it has no Pod there", nil
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return time.Since(c.LastTransitionTime.Time) >= w.settle, "pod " + pod.Name + " is Ready, and not for that long", nil
		}
	}
	return false, "pod " + pod.Name + " is not Ready", nil
}

// cleanUp runs the agent's own cleanup in the Pod of the agent: it refuses while kube-proxy answers on the node.
func (w *walker) cleanUp(ctx context.Context, node string) error {
	pod, err := w.factory.AgentPod(ctx, w.api, node)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	if err := w.factory.Exec(ctx, pod, &said, &said, "/agent", "cleanup", "--kube-proxy"); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

func (w *walker) cleanUpCommand(node string) string {
	return fmt.Sprintf("kubectl -n %s exec POD-OF-THE-AGENT-ON-%s -- /agent cleanup --kube-proxy", w.factory.OperatorNamespace, node)
}

func join(labels []Label) string {
	texts := make([]string, 0, len(labels))
	for _, label := range labels {
		texts = append(texts, label.String())
	}
	return strings.Join(texts, " ")
}
