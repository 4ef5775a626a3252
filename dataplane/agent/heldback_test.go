package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

func TestWhatHoldBackMeansWhereItIsNotSaid(t *testing.T) {
	for name, test := range map[string]struct {
		given v1alpha1.HoldBack
		want  catalog.HoldBack
	}{
		"nothing is said":              {v1alpha1.HoldBack{}, catalog.HoldBack{LossPercent: 90, For: 30 * time.Second}},
		"everything is said":           {v1alpha1.HoldBack{LossPercent: 50, Seconds: new(int32(5))}, catalog.HoldBack{LossPercent: 50, For: 5 * time.Second}},
		"everything is to be believed": {v1alpha1.HoldBack{Seconds: new(int32(0))}, catalog.HoldBack{LossPercent: 90}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, resolveHoldBack(test.given)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTheConditionIsThereWhileALossIsDoubted(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := state{assignment: &Assignment{}, held: &catalog.Held{
		Lost: catalog.Count{Services: 95, Endpoints: 300}, Before: catalog.Count{Services: 100, Endpoints: 310}, Since: now, Until: now.Add(30 * time.Second),
	}}
	status := s.status(&v1alpha1.ServiceProxyNodeStatus{}, "test", now)
	got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionHeldBack)
	want := "95 of 100 Services and 300 of 310 endpoints were lost within a few seconds; they go on as they were until 2026-01-01T00:00:30Z, unless they are back before"
	if got == nil || got.Status != metav1.ConditionTrue || got.Reason != v1alpha1.ReasonSuddenLoss || got.Message != want {
		t.Errorf("condition is %+v, want True with message %q", got, want)
	}
	s.held = nil
	status = s.status(&status, "test", now)
	if got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionHeldBack); got != nil {
		t.Errorf("condition %+v is still there", got)
	}
}
