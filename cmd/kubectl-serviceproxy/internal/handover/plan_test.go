package handover_test

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/handover"
)

// pool is a pool of the nodes with some labels, which cleans up what it leaves.
func pool(matchLabels map[string]v1alpha1.LabelValue) *v1alpha1.ServiceProxyConfig {
	c := &v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: "edge", Generation: 2}}
	c.Spec.NodeSelector = &v1alpha1.NodeSelector{MatchLabels: matchLabels}
	c.Spec.OnRelease = v1alpha1.ReleaseCleanup
	return c
}

func node(name string, ready corev1.ConditionStatus, labels ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		n.Labels[key] = value
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	return n
}

// kubeProxy is a DaemonSet with required terms, each written as KEY OPERATOR VALUE.
func kubeProxy(terms ...string) *appsv1.DaemonSet {
	set := &appsv1.DaemonSet{}
	if len(terms) == 0 {
		return set
	}
	required := &corev1.NodeSelector{}
	for _, term := range terms {
		words := strings.Fields(term)
		required.NodeSelectorTerms = append(required.NodeSelectorTerms, corev1.NodeSelectorTerm{
			MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: words[0], Operator: corev1.NodeSelectorOperator(words[1]), Values: words[2:]}}})
	}
	set.Spec.Template.Spec.Affinity = &corev1.Affinity{
		NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}
	return set
}

func TestPlan(t *testing.T) {
	own := map[string]v1alpha1.LabelValue{"example.com/proxy": "true"}
	selected, free := node("a", "True", "example.com/proxy=true"), node("b", "True")
	retains := pool(own)
	retains.Spec.OnRelease = ""
	stalled := pool(own)
	stalled.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStalled, Status: "True", Reason: "RolloutHalted",
		Message: "1 node failed", ObservedGeneration: 2}}
	byExpression := pool(own)
	byExpression.Spec.NodeSelector.MatchExpressions = []v1alpha1.NodeSelectorRequirement{{Key: "gpu", Operator: "Exists"}}

	avoiding := kubeProxy("off NotIn true")
	tests := map[string]struct {
		world     handover.World
		direction handover.Direction
		nodes     []string
		want      string
	}{
		"all that are selected": {
			world: handover.World{Pool: pool(own), Nodes: []corev1.Node{free, selected}, KubeProxy: avoiding},
			want:  "[a] by [example.com/proxy=true], mark example.com/proxy=true, teach false, []"},
		"one that is named": {
			world: handover.World{Pool: pool(own), Nodes: []corev1.Node{free, selected}, KubeProxy: avoiding}, nodes: []string{"b", "b"},
			want: "[b] by [example.com/proxy=true], mark example.com/proxy=true, teach false, []"},
		"kube-proxy does not know the label": {
			world: handover.World{Pool: pool(own), Nodes: []corev1.Node{selected}, KubeProxy: kubeProxy()},
			want:  "[a] by [example.com/proxy=true], mark example.com/proxy=true, teach true, []"},
		"kube-proxy avoids it in one of two ways only": {
			world: handover.World{Pool: pool(own), Nodes: []corev1.Node{selected}, KubeProxy: kubeProxy("off DoesNotExist", "arch In arm64")},
			want:  "[a] by [example.com/proxy=true], mark example.com/proxy=true, teach true, []"},
		"a pool that retains": {
			world: handover.World{Pool: retains, Nodes: []corev1.Node{selected}, KubeProxy: avoiding},
			want: "[a] by [example.com/proxy=true], mark example.com/proxy=true, teach false, " +
				"[spec.onRelease of pool edge is not Cleanup: the way back needs that]"},
		"every node": {
			world: handover.World{Pool: pool(nil), Nodes: []corev1.Node{free, selected}, KubeProxy: avoiding},
			want:  "[a b] by [], mark =, teach false, []"},
		"no DaemonSet": {world: handover.World{Pool: pool(own)},
			want: "there is no such DaemonSet of kube-proxy; give --kube-proxy NAMESPACE/NAME, " +
				"or go by docs/handover.md where kube-proxy is not run by a DaemonSet"},
		"nothing is selected": {world: handover.World{Pool: pool(own), Nodes: []corev1.Node{free}, KubeProxy: avoiding},
			want: "pool edge selects no node; name the nodes that are to be handed over"},
		"a node that is not there": {
			world: handover.World{Pool: pool(own), Nodes: []corev1.Node{node("worker-1", "True")}, KubeProxy: avoiding}, nodes: []string{"worker-2"},
			want: `there is no node "worker-2"; did you mean "worker-1"?`},
		"a node that is not Ready": {
			world: handover.World{Pool: pool(own), Nodes: []corev1.Node{node("a", "Unknown", "example.com/proxy=true")}, KubeProxy: avoiding},
			want:  "node a is not Ready: nobody could say whether it works; name the nodes that are"},
		"a pool that is stalled": {world: handover.World{Pool: stalled, Nodes: []corev1.Node{selected}, KubeProxy: avoiding},
			want: "pool edge is stalled, and would not take a node: RolloutHalted: 1 node failed"},
		"an expression that labels do not meet": {
			world: handover.World{Pool: byExpression, Nodes: []corev1.Node{selected}, KubeProxy: avoiding}, nodes: []string{"a"},
			want: "pool edge does not select node a, and labels alone do not change that: its nodeSelector has " +
				"expressions that the node does not meet"},
		"back": {
			world:     handover.World{Pool: pool(own), Nodes: []corev1.Node{free, selected}, KubeProxy: avoiding},
			direction: handover.ToKubeProxy,
			want:      "[a] by [example.com/proxy=true], mark example.com/proxy=true, teach false, []"},
		"back, and the label of Kubernetes stays": {
			world: handover.World{Pool: pool(map[string]v1alpha1.LabelValue{"example.com/proxy": "true", "kubernetes.io/os": "linux"}),
				Nodes: []corev1.Node{node("a", "True", "example.com/proxy=true", "kubernetes.io/os=linux")}, KubeProxy: avoiding},
			direction: handover.ToKubeProxy,
			want:      "[a] by [example.com/proxy=true kubernetes.io/os=linux], mark example.com/proxy=true, teach false, []"},
		"back from every node": {
			world:     handover.World{Pool: pool(nil), Nodes: []corev1.Node{free}, KubeProxy: avoiding},
			direction: handover.ToKubeProxy,
			want: "the nodeSelector of pool edge has not exactly one label of its own, so it is not clear which one to take from a node; " +
				"go by docs/handover.md"},
		"back from a pool that retains": {
			world:     handover.World{Pool: retains, Nodes: []corev1.Node{selected}, KubeProxy: avoiding},
			direction: handover.ToKubeProxy,
			want: "spec.onRelease of pool edge is not Cleanup, so nodes would keep its rules beside those of kube-proxy; " +
				`run: kubectl patch spc edge --type merge -p '{"spec":{"onRelease":"Cleanup"}}'`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			plan, err := handover.NewPlan(test.world, test.direction, test.nodes, handover.Label{Key: "off", Value: "true"})
			got := fmt.Sprintf("%v by %v, mark %s, teach %t, %v", plan.Nodes, plan.Labels, plan.Mark, plan.Teach, plan.Warnings)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
