package why_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/why"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

func config(name string, priority int32, matchLabels ...string) v1alpha1.ServiceProxyConfig {
	c := v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}}
	c.Spec.NodeSelector = &v1alpha1.NodeSelector{}
	for _, label := range matchLabels {
		key, value, _ := strings.Cut(label, "=")
		c.Spec.NodeSelector.MatchLabels = map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}
	}
	c.Spec.Priority, c.Spec.Mode = &priority, v1alpha1.ModeIPTables
	return c
}

func object(of, revision string, conditions ...metav1.Condition) v1alpha1.ServiceProxyNode {
	o := v1alpha1.ServiceProxyNode{ObjectMeta: metav1.ObjectMeta{Name: "a", Generation: 1}}
	o.Spec.ConfigRef.Name, o.Spec.Revision = of, revision
	o.Status.ObservedGeneration, o.Status.AppliedRevision, o.Status.Mode = 1, revision, v1alpha1.ModeIPTables
	for _, c := range conditions {
		c.ObservedGeneration = 1
		o.Status.Conditions = append(o.Status.Conditions, c)
	}
	return o
}

func TestAnswer(t *testing.T) {
	synced := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSynced}
	foreign := metav1.Condition{Type: v1alpha1.ConditionForeignProxy, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonKubeProxyRulesFound, Message: "kube-proxy runs"}
	failed := metav1.Condition{Type: v1alpha1.ConditionRolledBack, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonProbeFailed, Message: "probe web: no answer"}
	guard := config("default", 0)
	guard.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonGuardNotEnforced, Message: "the policy is missing"}}
	tests := map[string]struct {
		configs []v1alpha1.ServiceProxyConfig
		object  *v1alpha1.ServiceProxyNode
		well    bool
		want    string
	}{
		"in order": {
			configs: []v1alpha1.ServiceProxyConfig{config("default", 0)},
			object:  new(object("default", "default-fe352139b3", synced, foreign)), well: true, want: `
Node a: InOrder: it runs revision default-fe352139b3.

CONFIG   PRIORITY  SELECTS     WHY
default  0         every node  has the node: no other config selects it

given  default-fe352139b3
runs   default-fe352139b3, in mode iptables

Its agent says:
  ForeignProxy=True KubeProxyRulesFound: kube-proxy runs
`},
		"failed, among several configs": {
			configs: []v1alpha1.ServiceProxyConfig{
				config("default", 0), config("edge", 20, "role=edge"), config("late", 20), config("other", 30, "role=other")},
			object: new(object("edge", "edge-fe352139b3", failed)), want: `
Node a: Failed: ProbeFailed: probe web: no answer.

CONFIG   PRIORITY  SELECTS     WHY
edge     20        role=edge   has the node: edge had it first, and keeps it
other    30        role=other  does not select the node: its labels do not meet role=other
late     20        every node  selects the node with the same priority: edge had it first, and keeps it
default  0         every node  selects the node, but edge has a higher priority

given  edge-fe352139b3
runs   edge-fe352139b3, in mode iptables

Its agent says:
  RolledBack=True ProbeFailed: probe web: no answer

-> kubectl get events --field-selector involvedObject.name=a
-> kubectl serviceproxy rollback edge
-> kubectl serviceproxy retry edge  # when the cause is gone
`},
		"the guard is not in force": {configs: []v1alpha1.ServiceProxyConfig{guard}, want: `
Node a: Held: the policy is missing.

CONFIG   PRIORITY  SELECTS     WHY
default  0         every node  has the node: no other config selects it

-> kubectl serviceproxy status
`},
		"no config": {well: true, want: `
Node a: NotSelected: no config selects it: its agent touches nothing.
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			world := planner.World{
				Configs: test.configs, Now: metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)),
				Nodes: []planner.Node{{Name: "a", Ready: true, Labels: labels.Set{"role": "edge"}}},
			}
			if test.object != nil {
				world.Objects = []v1alpha1.ServiceProxyNode{*test.object}
			}
			answer, exists := why.Find(world, "a", "proxy")
			if !exists {
				t.Fatal("there is no node a")
			}
			if answer.Well != test.well {
				t.Errorf("well is %t, want %t", answer.Well, test.well)
			}
			var out bytes.Buffer
			page := output.NewPage(&out)
			answer.Print(page)
			if err := page.Flush(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), out.String()); diff != "" {
				t.Errorf("another page (-want +got):\n%s", diff)
			}
		})
	}
}
