package agent

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// announcer makes an event and a line in the log when the node gets into trouble, when the trouble becomes another one,
// and when it is over. Nothing else is told: a node that is on its way, or that has just started, is no news.
type announcer struct {
	// trouble is the reason that was told last, and of which object; empty when there is none.
	trouble string
	uid     types.UID
}

// news returns what is to be told of condition Ready of an object, and of which type the event is; nil for nothing.
func (a *announcer) news(uid types.UID, conditions []metav1.Condition) (*metav1.Condition, string) {
	if uid != a.uid {
		a.uid, a.trouble = uid, ""
	}
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
	case ready.Status == metav1.ConditionFalse && ready.Reason != a.trouble:
		a.trouble = ready.Reason
		return ready, corev1.EventTypeWarning
	case ready.Status == metav1.ConditionTrue && a.trouble != "":
		a.trouble = ""
		return ready, corev1.EventTypeNormal
	}
	return nil, ""
}

// announce tells the news of a status, if there is any.
func (r *reporter) announce(s *snapshot) {
	ready, level := r.announcer.news(s.uid, s.status.Conditions)
	if ready == nil {
		return
	}
	r.logger.Info("Node changed", "condition", ready.Type, "status", ready.Status, "reason", ready.Reason, "message", ready.Message)
	if r.recorder != nil && s.uid != "" { // else there is no object: the settings are from a file
		node := &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion().String(), Kind: "ServiceProxyNode", Name: r.nodeName, UID: s.uid}
		r.recorder.Event(node, level, ready.Reason, ready.Message)
	}
}
