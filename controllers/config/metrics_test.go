package config

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

func TestMetrics(t *testing.T) {
	m := NewMetrics("v1")
	if got := expose(t, m); strings.Contains(got, "serviceproxy_operator_nodes") || strings.Contains(got, "serviceproxy_operator_config_condition") {
		t.Errorf("there are numbers about configs and nodes before the first pass:\n%s", got)
	}
	running := func(node string, mode v1alpha1.Mode) v1alpha1.ServiceProxyNode {
		return v1alpha1.ServiceProxyNode{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: v1alpha1.ServiceProxyNodeStatus{Mode: mode}}
	}
	m.planned(time.Millisecond,
		&planner.World{
			Nodes:   []planner.Node{{Name: "a"}, {Name: "b"}, {Name: "c"}},
			Objects: []v1alpha1.ServiceProxyNode{running("a", v1alpha1.ModeIPVS), running("b", ""), running("gone", v1alpha1.ModeIPVS)},
			Hold:    "the policy is not there",
		},
		&planner.Plan{Statuses: map[string]v1alpha1.ServiceProxyConfigStatus{"edge": {
			Halted: &v1alpha1.HaltedRollout{},
			Nodes:  &v1alpha1.NodeCounts{Matched: new(int32(3)), Failed: new(int32(1))},
			Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse},
				{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue},
			},
		}}})
	m.assigned(nil)
	m.assigned(errors.New("no"))
	m.reported(context.Canceled)

	want := `
# HELP serviceproxy_operator_assignments_total Writes of the spec of a ServiceProxyNode, by what became of them.
# TYPE serviceproxy_operator_assignments_total counter
serviceproxy_operator_assignments_total{result="failed"} 1
serviceproxy_operator_assignments_total{result="written"} 1
# HELP serviceproxy_operator_config_condition 1 for the status (True, False or Unknown) that a condition of a ServiceProxyConfig has.
# TYPE serviceproxy_operator_config_condition gauge
serviceproxy_operator_config_condition{condition="Accepted",config="edge",status="Unknown"} 1
serviceproxy_operator_config_condition{condition="Conflicted",config="edge",status="Unknown"} 1
serviceproxy_operator_config_condition{condition="Ready",config="edge",status="False"} 1
serviceproxy_operator_config_condition{condition="Reconciling",config="edge",status="False"} 1
serviceproxy_operator_config_condition{condition="Stalled",config="edge",status="True"} 1
# HELP serviceproxy_operator_config_nodes Nodes of a ServiceProxyConfig by state, as in its status.nodes: a node is in several.
# TYPE serviceproxy_operator_config_nodes gauge
serviceproxy_operator_config_nodes{config="edge",state="assigned"} 0
serviceproxy_operator_config_nodes{config="edge",state="conflicted"} 0
serviceproxy_operator_config_nodes{config="edge",state="failed"} 1
serviceproxy_operator_config_nodes{config="edge",state="matched"} 3
serviceproxy_operator_config_nodes{config="edge",state="overridden"} 0
serviceproxy_operator_config_nodes{config="edge",state="ready"} 0
serviceproxy_operator_config_nodes{config="edge",state="unavailable"} 0
serviceproxy_operator_config_nodes{config="edge",state="updated"} 0
# HELP serviceproxy_operator_config_status_writes_total Writes of the status of a ServiceProxyConfig, by what became of them.
# TYPE serviceproxy_operator_config_status_writes_total counter
serviceproxy_operator_config_status_writes_total{result="failed"} 1
serviceproxy_operator_config_status_writes_total{result="written"} 0
# HELP serviceproxy_operator_guard_enforced 1 while the policy that keeps every agent to its own node is in force, 0 while no node is given anything because it is not.
# TYPE serviceproxy_operator_guard_enforced gauge
serviceproxy_operator_guard_enforced 0
# HELP serviceproxy_operator_nodes Nodes by the mode that their agents report, none where nothing runs.
# TYPE serviceproxy_operator_nodes gauge
serviceproxy_operator_nodes{mode="IPVS"} 1
serviceproxy_operator_nodes{mode="iptables"} 0
serviceproxy_operator_nodes{mode="none"} 2
# HELP serviceproxy_operator_rollouts_halted Rollouts that were stopped because too many nodes failed.
# TYPE serviceproxy_operator_rollouts_halted gauge
serviceproxy_operator_rollouts_halted 1
`
	got := expose(t, m)
	var rest []string
	for line := range strings.Lines(got) {
		if strings.Contains(line, "build_info") || strings.Contains(line, "plan_duration") {
			continue
		}
		rest = append(rest, line)
	}
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), strings.Join(rest, "")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	problems, err := promlint.New(strings.NewReader(got)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("names or texts against the conventions of Prometheus: %v, %v", problems, err)
	}
}

// expose returns what Prometheus would read.
func expose(t *testing.T, collector prometheus.Collector) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}
