// Package planner decides, from everything the operator knows, which settings every node is to run and what every
// ServiceProxyConfig has to report about it.
//
// It is a pure function of its input: no client, no clock, no state of its own. A new leader, or an operator that
// comes back after a crash, therefore goes on exactly where the last one stopped.
package planner

import (
	"cmp"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// World is everything a plan depends on. The planner reads it and never changes it.
type World struct {
	Configs []v1alpha1.ServiceProxyConfig
	Nodes   []Node
	// Objects are the ServiceProxyNodes as they are now.
	Objects []v1alpha1.ServiceProxyNode
	// Now is the time of every transition that the plan makes.
	Now metav1.Time
	// Hold is why no node may be given anything now, because what agents report cannot be relied on. Every config says
	// so. Empty if there is no such reason.
	Hold string
}

// Node is what decides of a Node object.
type Node struct {
	Name   string
	UID    types.UID
	Labels labels.Set
	// Ready is whether the Ready condition of the Node is True. A node that is not Ready is given its settings like
	// any other and is never waited for.
	Ready bool
}

// Plan is what the world should become.
type Plan struct {
	// Assignments say what nodes are to run, in the order of their names. A node that is not among them keeps what
	// it has: nothing that works is ever taken away because a config went away or became invalid.
	Assignments []Assignment
	// Statuses are the statuses of all configs by their names.
	Statuses map[string]v1alpha1.ServiceProxyConfigStatus
}

// Assignment is what one node is to run.
type Assignment struct {
	// Node and UID name the Node that is to own the ServiceProxyNode.
	Node string
	UID  types.UID
	// Replaces is the ServiceProxyNode of an earlier Node of the same name, which has to go first. Empty if there is
	// none.
	Replaces types.UID
	Spec     v1alpha1.ServiceProxyNodeSpec
}

// Make plans the world. Planning a world to which the plan has been applied gives the same plan again.
func Make(world World) Plan {
	pools := newPools(world.Configs)
	objects := make(map[string]*v1alpha1.ServiceProxyNode, len(world.Objects))
	for i := range world.Objects {
		objects[world.Objects[i].Name] = &world.Objects[i]
	}

	plan := Plan{Statuses: make(map[string]v1alpha1.ServiceProxyConfigStatus, len(pools))}
	for _, node := range slices.SortedFunc(slices.Values(world.Nodes), byName) {
		object, replaces := objects[node.Name], types.UID("")
		if object != nil && isOrphan(object, node) {
			object, replaces = nil, object.UID
		}
		holder := contend(pools, node, object)
		if holder == nil {
			continue
		}
		holder.observe(node, object)
		if holder.invalid == nil {
			plan.Assignments = append(plan.Assignments, Assignment{
				Node: node.Name, UID: node.UID, Replaces: replaces, Spec: holder.specFor(object),
			})
		}
	}
	for _, p := range pools {
		p.hold = world.Hold
		plan.Statuses[p.config.Name] = p.status(world.Now)
	}
	if world.Hold != "" {
		plan.Assignments = nil
	}
	return plan
}

// contend returns the pool that has the node, or nil if there is none, and tells all pools that wanted it.
//
// The highest priority wins. Among equals the pool that has the node already keeps it, because what works is not
// changed for an undecided question; if none has it, the first name wins. Equals are told of each other. A pool that
// is outranked has nothing to complain about: that is what priorities are for.
func contend(pools []*pool, node Node, object *v1alpha1.ServiceProxyNode) *pool {
	incumbent := ""
	if object != nil {
		incumbent = object.Spec.ConfigRef.Name
	}
	var equals []*pool // of the highest priority, by name
	for _, p := range pools {
		if !p.wants(node, incumbent) {
			continue
		}
		if p.invalid == nil {
			p.matched++
		}
		switch {
		case len(equals) == 0 || p.priority == equals[0].priority:
			equals = append(equals, p)
		case p.priority > equals[0].priority:
			overrule(equals)
			equals = []*pool{p}
		default:
			overrule([]*pool{p})
		}
	}
	if len(equals) == 0 {
		return nil
	}
	holder := equals[0]
	for _, p := range equals {
		if p.config.Name == incumbent {
			holder = p
		}
	}
	for _, p := range equals {
		p.share(node.Name, holder, equals)
	}
	return holder
}

func overrule(pools []*pool) {
	for _, p := range pools {
		if p.invalid == nil {
			p.overridden++
		}
	}
}

// isOrphan tells whether the object was made for another Node of the same name, which a machine that was rebuilt is.
// An object without a Node as owner belongs to nobody yet.
func isOrphan(object *v1alpha1.ServiceProxyNode, node Node) bool {
	for _, owner := range object.OwnerReferences {
		if owner.APIVersion == "v1" && owner.Kind == "Node" {
			return owner.UID != node.UID
		}
	}
	return false
}

func byName(a, b Node) int { return cmp.Compare(a.Name, b.Name) }

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
