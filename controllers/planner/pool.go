package planner

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// pool is a config while the nodes are being dealt out: what is known of it beforehand, and what is counted.
type pool struct {
	config   *v1alpha1.ServiceProxyConfig
	priority int32
	revision string
	selector labels.Selector
	// hold is why no node is given anything, or empty.
	hold string
	// invalid is why the selector cannot be parsed, or nil.
	invalid error

	matched, overridden, conflicted, assigned, updated, ready int32

	// shared are the nodes that configs of the same priority select as well, by the names of those configs.
	shared map[string][]string
	// lost are the nodes that stayed with a config of the same priority, by the name of that config.
	lost map[string][]string
	// waiting are the nodes that are on their way and waited for.
	waiting []string
	// unavailable are the nodes whose Node is not Ready.
	unavailable []string
	failures    []v1alpha1.FailedNode
}

// newPools returns the pools in the order of their names.
func newPools(configs []v1alpha1.ServiceProxyConfig) []*pool {
	pools := make([]*pool, 0, len(configs))
	for i := range configs {
		config := &configs[i]
		p := &pool{
			config:   config,
			priority: ptr.Deref(config.Spec.Priority, 0),
			revision: Revision(config.Name, config.Spec.ProxySettings),
			shared:   map[string][]string{},
			lost:     map[string][]string{},
		}
		p.selector, p.invalid = Selector(config.Spec.NodeSelector)
		pools = append(pools, p)
	}
	slices.SortFunc(pools, func(a, b *pool) int { return cmp.Compare(a.config.Name, b.config.Name) })
	return pools
}

// wants tells whether the pool lays claim to a node. With a selector that cannot be parsed it holds on to the nodes
// that it has and takes no other.
func (p *pool) wants(node Node, incumbent string) bool {
	if p.invalid != nil {
		return p.config.Name == incumbent
	}
	return p.selector.Matches(node.Labels)
}

// share notes that the pools in equals, this one among them, select the same node and that holder has it.
func (p *pool) share(node string, holder *pool, equals []*pool) {
	if len(equals) == 1 {
		return
	}
	p.conflicted++
	for _, rival := range equals {
		if rival != p {
			p.shared[rival.config.Name] = append(p.shared[rival.config.Name], node)
		}
	}
	if holder != p {
		p.lost[holder.config.Name] = append(p.lost[holder.config.Name], node)
	}
}

// specFor returns what a node of the pool is to run. An object that has these settings keeps the generation they
// were taken from: a change that leaves the settings alone is not a change for any node.
func (p *pool) specFor(object *v1alpha1.ServiceProxyNode) v1alpha1.ServiceProxyNodeSpec {
	generation := p.config.Generation
	if object != nil && object.Spec.Revision == p.revision && object.Spec.ConfigRef.Name == p.config.Name {
		generation = ptr.Deref(object.Spec.ConfigRef.Generation, generation)
	}
	return v1alpha1.ServiceProxyNodeSpec{
		ConfigRef:     v1alpha1.ConfigReference{Name: p.config.Name, Generation: &generation},
		Revision:      p.revision,
		ProxySettings: p.config.Spec.ProxySettings,
	}
}

// observe counts a node that the pool has.
//
// What the agent said of an earlier assignment says nothing of this one, so only what it reports for the current
// generation of its object counts, and only once the object holds the current revision.
func (p *pool) observe(node Node, object *v1alpha1.ServiceProxyNode) {
	p.assigned++
	if !node.Ready {
		p.unavailable = append(p.unavailable, node.Name)
	}
	if object == nil || object.Spec.Revision != p.revision {
		p.wait(node)
		return
	}
	failed := failure(object)
	updated := object.Status.ObservedGeneration == object.Generation && object.Status.AppliedRevision == p.revision
	if updated {
		p.updated++
	}
	switch {
	case failed != nil:
		p.failures = append(p.failures, *failed)
	case updated && isReported(object, v1alpha1.ConditionReady, metav1.ConditionTrue) != nil:
		p.ready++
	default:
		p.wait(node)
	}
}

// wait notes a node that is on its way, unless nobody can say when it will be back.
func (p *pool) wait(node Node) {
	if node.Ready {
		p.waiting = append(p.waiting, node.Name)
	}
}

// failure returns what a node failed with, or nil.
func failure(object *v1alpha1.ServiceProxyNode) *v1alpha1.FailedNode {
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed} {
		if condition := isReported(object, kind, metav1.ConditionFalse); condition != nil {
			return &v1alpha1.FailedNode{
				Name:    object.Name,
				Reason:  shorten(condition.Reason, maxReason),
				Message: shorten(condition.Message, maxMessage),
			}
		}
	}
	return nil
}

// isReported returns the condition if the agent reported it with this status for the current generation.
func isReported(object *v1alpha1.ServiceProxyNode, kind string, status metav1.ConditionStatus) *metav1.Condition {
	condition := meta.FindStatusCondition(object.Status.Conditions, kind)
	if condition == nil || condition.Status != status || condition.ObservedGeneration != object.Generation {
		return nil
	}
	return condition
}

// Selector returns the labels.Selector of a NodeSelector. The API server refuses those that have none, but an object may
// be older than that.
func Selector(s *v1alpha1.NodeSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Nothing(), nil
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for key, value := range s.MatchLabels {
		selector.MatchLabels[key] = string(value)
	}
	for _, r := range s.MatchExpressions {
		requirement := metav1.LabelSelectorRequirement{Key: r.Key, Operator: r.Operator}
		for _, value := range r.Values {
			requirement.Values = append(requirement.Values, string(value))
		}
		selector.MatchExpressions = append(selector.MatchExpressions, requirement)
	}
	return metav1.LabelSelectorAsSelector(selector)
}
