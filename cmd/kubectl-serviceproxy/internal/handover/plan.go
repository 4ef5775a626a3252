// Package handover walks the nodes of a pool from kube-proxy to service-proxy-operator and back, one after another, so that
// at any moment one of the two programs every node.
package handover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// Direction is from where to where nodes are handed over.
type Direction int

const (
	// FromKubeProxy makes kube-proxy leave the nodes.
	FromKubeProxy Direction = iota
	// ToKubeProxy brings it back.
	ToKubeProxy
)

// Label is a label of a node.
type Label struct{ Key, Value string }

// ParseLabel reads KEY=VALUE.
func ParseLabel(text string) (Label, error) {
	key, value, found := strings.Cut(text, "=")
	if !found || key == "" || value == "" {
		return Label{}, fmt.Errorf("%q is not KEY=VALUE", text)
	}
	return Label{key, value}, nil
}

func (l Label) String() string { return l.Key + "=" + l.Value }

// World is what a plan is made of.
type World struct {
	Pool *v1alpha1.ServiceProxyConfig
	// Nodes are all Nodes of the cluster.
	Nodes []corev1.Node
	// KubeProxy is the DaemonSet of kube-proxy, or nil if there is none of the name that was given.
	KubeProxy *appsv1.DaemonSet
}

// Plan says which nodes are handed over and how.
type Plan struct {
	Direction Direction
	// Nodes are in the order of their names.
	Nodes []string
	// Labels are those by which the pool selects a node, and Mark is the one of them that is taken away on the way back.
	Labels []Label
	Mark   Label
	// Avoided is the label that keeps kube-proxy off a node, and Teach says that its DaemonSet does not know that yet.
	Avoided Label
	Teach   bool
	// Warnings are what to mind.
	Warnings []string
}

// NewPlan plans to hand over nodes, or all nodes that the pool selects if none are named. The error says what has to be
// done before.
func NewPlan(world World, direction Direction, nodes []string, avoided Label) (Plan, error) {
	plan := Plan{Direction: direction, Avoided: avoided}
	if world.KubeProxy == nil {
		return Plan{}, errors.New("there is no such DaemonSet of kube-proxy; give --kube-proxy NAMESPACE/NAME, " +
			"or go by docs/handover.md where kube-proxy is not run by a DaemonSet")
	}
	selector, err := planner.Selector(world.Pool.Spec.NodeSelector)
	if err != nil {
		return Plan{}, fmt.Errorf("pool %s cannot be handed over: its nodeSelector cannot be parsed: %w", world.Pool.Name, err)
	}
	chosen, err := choose(world.Nodes, selector, nodes)
	if err != nil {
		return Plan{}, err
	}
	if len(chosen) == 0 {
		return Plan{}, fmt.Errorf("pool %s selects no node; name the nodes that are to be handed over", world.Pool.Name)
	}
	for _, node := range chosen {
		plan.Nodes = append(plan.Nodes, node.Name)
	}
	plan.labels(world.Pool)
	plan.Teach = !avoids(world.KubeProxy, avoided)
	if direction == FromKubeProxy {
		return plan, plan.checkFrom(world.Pool, selector, chosen)
	}
	return plan, plan.checkTo(world.Pool)
}

// choose returns the nodes that are named, or all that are selected.
func choose(all []corev1.Node, selector labels.Selector, named []string) ([]*corev1.Node, error) {
	known := map[string]*corev1.Node{}
	for i := range all {
		known[all[i].Name] = &all[i]
	}
	names := slices.Sorted(maps.Keys(known))
	var chosen []*corev1.Node
	for _, name := range candidates(named, names) {
		node := known[name]
		switch {
		case node == nil:
			return nil, access.NoSuch("node", name, names)
		case len(named) > 0 || selector.Matches(labels.Set(node.Labels)):
			chosen = append(chosen, node)
		}
	}
	return chosen, nil
}

// candidates returns the names that were given, each once, or all.
func candidates(named, all []string) []string {
	if len(named) == 0 {
		return all
	}
	return slices.Compact(slices.Sorted(slices.Values(named)))
}

// labels notes by which labels the pool selects nodes, and which of them is nobody else's.
func (p *Plan) labels(pool *v1alpha1.ServiceProxyConfig) {
	for key, value := range pool.Spec.NodeSelector.MatchLabels {
		p.Labels = append(p.Labels, Label{key, string(value)})
	}
	slices.SortFunc(p.Labels, func(a, b Label) int { return cmp.Compare(a.Key, b.Key) })
	var own []Label
	for _, label := range p.Labels {
		if domain, _, _ := strings.Cut(label.Key, "/"); !strings.HasSuffix(domain, "kubernetes.io") && !strings.HasSuffix(domain, "k8s.io") {
			own = append(own, label)
		}
	}
	if len(own) == 1 {
		p.Mark = own[0]
	}
}

func (p *Plan) checkFrom(pool *v1alpha1.ServiceProxyConfig, selector labels.Selector, nodes []*corev1.Node) error {
	if stalled := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionStalled); stalled != nil &&
		stalled.Status == metav1.ConditionTrue && stalled.ObservedGeneration == pool.Generation {
		return fmt.Errorf("pool %s is stalled, and would not take a node: %s: %s", pool.Name, stalled.Reason, stalled.Message)
	}
	if pool.Spec.OnRelease != v1alpha1.ReleaseCleanup {
		p.Warnings = append(p.Warnings, fmt.Sprintf("spec.onRelease of pool %s is not Cleanup: the way back needs that", pool.Name))
	}
	for _, node := range nodes {
		if !isReady(node) {
			return fmt.Errorf("node %s is not Ready: nobody could say whether it works; name the nodes that are", node.Name)
		}
		would := labels.Set(maps.Clone(node.Labels))
		if would == nil {
			would = labels.Set{}
		}
		for _, label := range p.Labels {
			would[label.Key] = label.Value
		}
		if !selector.Matches(would) {
			return fmt.Errorf("pool %s does not select node %s, and labels alone do not change that: its nodeSelector has "+
				"expressions that the node does not meet", pool.Name, node.Name)
		}
	}
	return nil
}

func (p *Plan) checkTo(pool *v1alpha1.ServiceProxyConfig) error {
	if pool.Spec.OnRelease != v1alpha1.ReleaseCleanup {
		return fmt.Errorf("spec.onRelease of pool %[1]s is not Cleanup, so nodes would keep its rules beside those of kube-proxy; "+
			"run: kubectl patch spc %[1]s --type merge -p '{\"spec\":{\"onRelease\":\"Cleanup\"}}'", pool.Name)
	}
	if p.Mark == (Label{}) {
		return fmt.Errorf("the nodeSelector of pool %s has not exactly one label of its own, so it is not clear which one to take "+
			"from a node; go by docs/handover.md", pool.Name)
	}
	return nil
}

func isReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// avoids tells whether a DaemonSet leaves nodes with a label alone.
func avoids(set *appsv1.DaemonSet, label Label) bool {
	affinity := set.Spec.Template.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	terms := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for _, term := range terms { // a node has to meet one of them
		if !slices.ContainsFunc(term.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
			return r.Key == label.Key && (r.Operator == corev1.NodeSelectorOpDoesNotExist ||
				r.Operator == corev1.NodeSelectorOpNotIn && slices.Contains(r.Values, label.Value))
		}) {
			return false
		}
	}
	return len(terms) > 0
}

// teach makes a DaemonSet leave nodes with a label alone.
func teach(set *appsv1.DaemonSet, label Label) {
	pod := &set.Spec.Template.Spec
	if pod.Affinity == nil {
		pod.Affinity = &corev1.Affinity{}
	}
	if pod.Affinity.NodeAffinity == nil {
		pod.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	required := &pod.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if *required == nil || len((*required).NodeSelectorTerms) == 0 {
		*required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}
	}
	for i := range (*required).NodeSelectorTerms {
		term := &(*required).NodeSelectorTerms[i]
		term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{
			Key: label.Key, Operator: corev1.NodeSelectorOpNotIn, Values: []string{label.Value},
		})
	}
}
