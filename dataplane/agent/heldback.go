package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

// What is doubted where the settings leave it open.
const (
	defaultLossPercent     = 90
	defaultHoldBackSeconds = 30
)

// resolveHoldBack fills in the defaults.
func resolveHoldBack(h v1alpha1.HoldBack) catalog.HoldBack {
	percent := int(h.LossPercent)
	if percent == 0 {
		percent = defaultLossPercent
	}
	return catalog.HoldBack{LossPercent: percent, For: time.Duration(ptr.Deref(h.Seconds, defaultHoldBackSeconds)) * time.Second}
}

// doubt tells of what is held back when that begins and ends. It returns when to look again.
func (l *loop) doubt(ctx context.Context, held *catalog.Held) time.Duration {
	before, logger := l.state.held, klog.FromContext(ctx)
	l.report.metrics.setHeldBack(held)
	switch {
	case before == nil && held != nil:
		l.state.held = held
		logger.Info("A sudden loss is held back", "services", held.Lost.Services, "ofServices", held.Before.Services,
			"endpoints", held.Lost.Endpoints, "ofEndpoints", held.Before.Endpoints, "until", held.Until)
		l.heldBackEvent(corev1.EventTypeWarning, heldMessage(held))
	case before != nil && held != nil:
		// Status keeps the first numbers: in a storm they would change with every step, on every node.
		kept := *before
		kept.Until = held.Until
		l.state.held = &kept
	case before != nil && !l.clock.Now().Before(before.Until):
		logger.Info("A sudden loss is believed now", "services", before.Lost.Services, "endpoints", before.Lost.Endpoints)
		l.heldBackEvent(corev1.EventTypeWarning, fmt.Sprintf("the loss of %s has lasted and is programmed now", lost(before)))
	case before != nil:
		logger.Info("What was lost suddenly is back, or is not doubted any more", "since", before.Since)
		l.heldBackEvent(corev1.EventTypeNormal, "what was lost suddenly is back, or is not doubted any more")
	}
	if held == nil {
		l.state.held = nil
		return idle
	}
	return max(held.Until.Sub(l.clock.Now()), 0)
}

func (l *loop) heldBackEvent(level, message string) {
	uid := l.state.assignment.UID
	if l.report.recorder == nil || uid == "" {
		return
	}
	node := &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion().String(), Kind: "ServiceProxyNode", Name: l.report.nodeName, UID: uid}
	l.report.recorder.Event(node, level, v1alpha1.ReasonSuddenLoss, message)
}

func lost(h *catalog.Held) string {
	return fmt.Sprintf("%d of %d Services and %d of %d endpoints",
		h.Lost.Services, h.Before.Services, h.Lost.Endpoints, h.Before.Endpoints)
}

func heldMessage(h *catalog.Held) string {
	return fmt.Sprintf("%s were lost within a few seconds; they go on as they were until %s, unless they are back before",
		lost(h), h.Until.UTC().Format(time.RFC3339))
}

// heldBackCondition is there while a sudden loss is doubted.
func (s *state) heldBackCondition() []metav1.Condition {
	if s.held == nil {
		return nil
	}
	return []metav1.Condition{{Type: v1alpha1.ConditionHeldBack, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonSuddenLoss, Message: heldMessage(s.held)}}
}

func (m *metrics) setHeldBack(h *catalog.Held) {
	var lost catalog.Count
	if h != nil {
		lost = h.Lost
	}
	m.heldBack.WithLabelValues("services").Set(float64(lost.Services))
	m.heldBack.WithLabelValues("endpoints").Set(float64(lost.Endpoints))
}
