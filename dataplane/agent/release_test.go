package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/foreignproxy"
)

func TestStatusOfANodeThatIsGivenBack(t *testing.T) {
	release := &Assignment{Generation: 3, Revision: "pool-2", Release: true}
	type summary struct{ Ready, Programmed, Draining string }
	tests := map[string]struct {
		state state
		want  summary
	}{
		"connections are left": {
			state{assignment: release, draining: 4},
			summary{"Unknown/Pending", "Unknown/Pending", "True/ConnectionsDraining"},
		},
		"nothing is left": {
			state{assignment: release, released: true},
			summary{"True/Released", "False/Released", "absent"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := conditionsOf(&test.state)
			if diff := cmp.Diff(test.want, summary{
				got(v1alpha1.ConditionReady), got(v1alpha1.ConditionProgrammed), got(v1alpha1.ConditionDraining),
			}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestStatusNamesAnotherProxy(t *testing.T) {
	a := assignment(1, "pool-1")
	tests := map[string]struct {
		foreign *foreign
		want    string
	}{
		"before anybody looked": {nil, "absent"},
		"nothing":               {&foreign{found: &foreignproxy.Found{}}, "False/NoForeignRules"},
		"kube-proxy":            {&foreign{found: &foreignproxy.Found{Rules: []string{"ipvs"}}}, "True/KubeProxyRulesFound"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := conditionsOf(&state{assignment: a, applied: a, foreign: test.foreign})(v1alpha1.ConditionForeignProxy); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// conditionsOf returns the conditions that a state is reported with, as STATUS/REASON.
func conditionsOf(s *state) func(kind string) string {
	status := s.status(&v1alpha1.ServiceProxyNodeStatus{}, "v1", time.Unix(1000, 0))
	return func(kind string) string {
		c := meta.FindStatusCondition(status.Conditions, kind)
		if c == nil {
			return "absent"
		}
		return string(c.Status) + "/" + c.Reason
	}
}
