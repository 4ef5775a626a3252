package planner

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// pool is a config while the nodes are being dealt out: what is known of it beforehand, and what is found out.
type pool struct {
	world    *World
	config   *v1alpha1.ServiceProxyConfig
	priority int32
	selector labels.Selector
	canaries labels.Selector
	// invalid is why a selector cannot be parsed, or nil.
	invalid error
	rollout rollout

	// update names the settings of the config, current those that the last completed rollout left on the nodes; it is
	// empty as long as there was none.
	update, current string
	// fallback are the settings of current; nil if nobody knows them any more.
	fallback *v1alpha1.ProxySettings
	halted   *v1alpha1.HaltedRollout

	members []*member
	phase   phase

	matched, overridden, conflicted int32
	// ready is the number of nodes that run the update and are in sync.
	ready int
	// shared are the nodes that configs of the same priority select as well, by the names of those configs.
	shared map[string][]string
	// lost are the nodes that stayed with a config of the same priority, by the name of that config.
	lost map[string][]string
}

// rollout is spec.rollout with everything that is unset filled in.
type rollout struct {
	maxUnavailable, failureThreshold *intstr.IntOrString
	canaries                         int
	bake, minReady, timeout, delay   time.Duration
}

// defaultDelay is how long a node that no config selects any more keeps what it has where there is no config that
// says so.
const defaultDelay = 30 * time.Second

func newRollout(r *v1alpha1.Rollout) rollout {
	seconds := func(value *int32, unset int32) time.Duration {
		return time.Duration(ptr.Deref(value, unset)) * time.Second
	}
	return rollout{
		maxUnavailable:   cmp.Or(r.MaxUnavailable, new(intstr.FromString("10%"))),
		failureThreshold: cmp.Or(r.FailureThreshold, new(intstr.FromInt32(1))),
		canaries:         int(r.Canary.Nodes),
		bake:             seconds(r.Canary.BakeSeconds, 60),
		minReady:         seconds(r.MinReadySeconds, 10),
		timeout:          seconds(r.NodeTimeoutSeconds, 300),
		delay:            seconds(r.NodeChangeDelaySeconds, int32(defaultDelay/time.Second)),
	}
}

// newPools returns the pools in the order of their names.
func newPools(world *World) []*pool {
	pools := make([]*pool, 0, len(world.Configs))
	for i := range world.Configs {
		config := &world.Configs[i]
		p := &pool{
			world:    world,
			config:   config,
			priority: ptr.Deref(config.Spec.Priority, 0),
			rollout:  newRollout(&config.Spec.Rollout),
			update:   nameFor(config.Name, &config.Spec.ProxySettings, world.Revisions),
			current:  config.Status.CurrentRevision,
			shared:   map[string][]string{},
			lost:     map[string][]string{},
		}
		p.fallback = p.settings(p.current)
		if h := config.Status.Halted; h != nil && h.Revision == p.update && h.Retry == p.retry() {
			p.halted = h.DeepCopy()
			p.halted.OnFailure = p.onFailure()
		}
		p.parseSelectors()
		pools = append(pools, p)
	}
	slices.SortFunc(pools, func(a, b *pool) int { return cmp.Compare(a.config.Name, b.config.Name) })
	return pools
}

func (p *pool) parseSelectors() {
	p.canaries = labels.Everything()
	var err error
	if p.selector, err = Selector(p.config.Spec.NodeSelector); err != nil {
		p.invalid = fmt.Errorf("spec.nodeSelector cannot be parsed: %w", err)
		return
	}
	if s := p.config.Spec.Rollout.Canary.NodeSelector; s != nil {
		if p.canaries, err = Selector(s); err != nil {
			p.invalid = fmt.Errorf("spec.rollout.canary.nodeSelector cannot be parsed: %w", err)
		}
	}
}

// settings returns what a revision of the pool stands for, or nil if nobody knows any more.
func (p *pool) settings(revision string) *v1alpha1.ProxySettings {
	if revision == p.update {
		return &p.config.Spec.ProxySettings
	}
	for i := range p.world.Revisions {
		if r := &p.world.Revisions[i]; r.Name == revision && r.Config == p.config.Name {
			return &r.Settings
		}
	}
	return nil
}

func (p *pool) retry() string { return p.config.Annotations[v1alpha1.AnnotationRetry] }

// onFailure returns what becomes of a halted rollout. Without anything to return to it can only be left as it is.
func (p *pool) onFailure() v1alpha1.RolloutOnFailure {
	if p.config.Spec.Rollout.OnFailure == v1alpha1.OnFailureRollback && p.fallback != nil {
		return v1alpha1.OnFailureRollback
	}
	return v1alpha1.OnFailureHalt
}

// isChanging tells whether a rollout of other settings than the last is under way.
func (p *pool) isChanging() bool { return p.update != p.current }

func (p *pool) isPaused() bool { return p.config.Spec.Rollout.State == v1alpha1.RolloutPaused }

// limit is a number or a percentage of the pool, rounded up, at least 1.
func (p *pool) limit(value *intstr.IntOrString) int {
	n, err := intstr.GetScaledValueFromIntOrPercent(value, len(p.members), true)
	if err != nil {
		return 1 // the API server lets nothing else than numbers and percentages pass
	}
	return max(1, n)
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
