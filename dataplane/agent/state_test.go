package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

func TestStatus(t *testing.T) {
	before := &Assignment{Generation: 1, Revision: "pool-1", Settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}}
	now := &Assignment{Generation: 2, Revision: "pool-2", Settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}}
	type summary struct{ Ready, Accepted, Programmed, Applied string }
	tests := map[string]struct {
		state state
		want  summary
		says  string
	}{
		"just started": {
			state: state{assignment: now},
			want:  summary{"Unknown/Pending", "True/Supported", "Unknown/Pending", ""},
			says:  "rules from before this agent started",
		},
		"in sync": {
			state: state{assignment: now, applied: now},
			want:  summary{"True/Synced", "True/Supported", "True/Synced", "pool-2"},
			says:  "the kernel holds",
		},
		"a new assignment is on its way": {
			state: state{assignment: now, applied: before},
			want:  summary{"Unknown/Pending", "True/Supported", "Unknown/Pending", "pool-1"},
			says:  "revision pool-1 goes on running",
		},
		"a new assignment cannot be carried out": {
			state: state{assignment: now, applied: before, refused: &refusal{v1alpha1.ReasonInvalidSettings, "spec.masquerade.bit: 40 is not between 0 and 31"}},
			want:  summary{"False/InvalidSettings", "False/InvalidSettings", "False/NotAccepted", "pool-1"},
			says:  "spec.masquerade.bit",
		},
		"the kernel refuses": {
			state: state{assignment: now, applied: now, failed: errors.New("running iptables-restore: no memory")},
			want:  summary{"False/ApplyFailed", "True/Supported", "False/ApplyFailed", "pool-2"},
			says:  "no memory",
		},
		"two Services claim an address": {
			state: state{assignment: now, applied: now, disputes: []string{"192.0.2.1:80/tcp is held by a/b and also claimed by c/d"}},
			want:  summary{"True/Synced", "True/Supported", "True/Synced", "pool-2"},
			says:  "also claimed by c/d",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status := test.state.status(&v1alpha1.ServiceProxyNodeStatus{}, "v1", time.Unix(1000, 0))
			get := func(kind string) string {
				c := meta.FindStatusCondition(status.Conditions, kind)
				if c == nil || c.ObservedGeneration != 2 {
					return "missing or of another generation"
				}
				return string(c.Status) + "/" + c.Reason
			}
			got := summary{get(v1alpha1.ConditionReady), get(v1alpha1.ConditionAccepted), get(v1alpha1.ConditionProgrammed), status.AppliedRevision}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if message := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady).Message; !strings.Contains(message, test.says) {
				t.Errorf("message of Ready is %q, want it to say %q", message, test.says)
			}
		})
	}
}

func TestStatusKeepsTransitionTimes(t *testing.T) {
	a := &Assignment{Generation: 1, Revision: "pool-1"}
	first := (&state{assignment: a, applied: a}).status(&v1alpha1.ServiceProxyNodeStatus{}, "v1", time.Unix(1000, 0))
	second := (&state{assignment: a, applied: a}).status(&first, "v1", time.Unix(2000, 0))
	third := (&state{assignment: a, applied: a, failed: errors.New("no")}).status(&second, "v1", time.Unix(3000, 0))
	for i, want := range []struct {
		status v1alpha1.ServiceProxyNodeStatus
		unix   int64
	}{{first, 1000}, {second, 1000}, {third, 3000}} {
		if got := meta.FindStatusCondition(want.status.Conditions, v1alpha1.ConditionReady).LastTransitionTime; !got.Equal(&metav1.Time{Time: time.Unix(want.unix, 0)}) {
			t.Errorf("status %d: Ready changed at %v, want %d", i, got, want.unix)
		}
	}
}

func TestLongMessagesAreShortened(t *testing.T) {
	a := &Assignment{Generation: 1}
	status := (&state{assignment: a, failed: errors.New(strings.Repeat("x", 5000))}).status(&v1alpha1.ServiceProxyNodeStatus{}, "v1", time.Unix(0, 0))
	if n := len(status.Sync.LastError); n > 1024 {
		t.Errorf("lastError has %d characters; the API takes 1024", n)
	}
}
