package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestOneAnnouncementForATransition(t *testing.T) {
	var a announcer
	for _, step := range []struct {
		uid    types.UID
		status metav1.ConditionStatus
		reason string
		want   string
	}{
		{"1", metav1.ConditionUnknown, "Pending", ""},
		{"1", metav1.ConditionTrue, "Synced", ""},
		{"1", metav1.ConditionFalse, "ApplyFailed", "Warning ApplyFailed"},
		{"1", metav1.ConditionFalse, "ApplyFailed", ""},
		{"1", metav1.ConditionFalse, "ProbeFailed", "Warning ProbeFailed"},
		{"1", metav1.ConditionUnknown, "Pending", ""},
		{"1", metav1.ConditionTrue, "Synced", "Normal Synced"},
		{"1", metav1.ConditionTrue, "Synced", ""},
		{"1", metav1.ConditionFalse, "ProbeFailed", "Warning ProbeFailed"},
		{"2", metav1.ConditionTrue, "Synced", ""},
		{"2", metav1.ConditionFalse, "ProbeFailed", "Warning ProbeFailed"},
	} {
		var got string
		if news, level := a.news(step.uid, []metav1.Condition{{Type: "Ready", Status: step.status, Reason: step.reason}}); news != nil {
			got = level + " " + news.Reason
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("object %s, %s %s (-want +got):\n%s", step.uid, step.status, step.reason, diff)
		}
	}
}
