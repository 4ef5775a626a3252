// Package planner decides, from everything the operator knows, which settings every node is to run and what every
// ServiceProxyConfig has to report about it.
//
// It is a pure function of its input: no client, no clock, no state of its own. What has to be remembered is in the
// objects that it is given: which rollout was halted and which was completed last in the status of a config, what nodes
// ran before in ControllerRevisions, and since when a node has its settings in an annotation of its ServiceProxyNode. A
// new leader, or an operator that comes back after a crash, therefore goes on exactly where the last one stopped.
package planner

import (
	"cmp"
	"maps"
	"slices"
	"time"

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
	// Revisions are the settings that configs have or had.
	Revisions []Revision
	// Now is the time of every transition that the plan makes.
	Now metav1.Time
	// Hold is why no node may be given anything now, because what agents report cannot be relied on. Every config says
	// so. Empty if there is no such reason.
	Hold string
	// Updating is why no node may change from one revision to another now: the agents are being updated themselves, and
	// nobody could say which of the two a failure comes from. Nodes that have nothing yet are given something. Empty if
	// there is no such reason.
	Updating string
}

// Node is what decides of a Node object.
type Node struct {
	Name   string
	UID    types.UID
	Labels labels.Set
	// Created orders the nodes of a zone: the oldest are first.
	Created metav1.Time
	// Ready is whether the Ready condition of the Node is True. A node that is not Ready is never waited for longer than
	// the rollout of its config says.
	Ready bool
	// Since is when Ready became what it is; zero if nobody knows.
	Since metav1.Time
	// AgentDown says that the agent of the node is known not to be ready, whatever it reported last.
	AgentDown bool
}

// Plan is what the world should become.
type Plan struct {
	// Revisions are to be written before anything else, so that there is something to return to.
	Revisions []Revision
	// Statuses are the statuses of all configs by their names. They are to be written before the assignments, because
	// they remember what those are based on.
	Statuses map[string]v1alpha1.ServiceProxyConfigStatus
	// Assignments say what nodes are to run, in the order of their names. A node that is not among them keeps what
	// it has: nothing that works is ever taken away because a config became invalid.
	Assignments []Assignment
	// Obsolete are the names of the revisions that nobody needs any more.
	Obsolete []string
	// Next is when time alone changes the plan, or zero if it does not.
	Next time.Time
}

// Assignment is what one node is to run.
type Assignment struct {
	// Config is the config that the assignment is made for: the one that has the node or is to have it.
	Config string
	// Node and UID name the Node that is to own the ServiceProxyNode.
	Node string
	UID  types.UID
	// Replaces is the ServiceProxyNode that has to go first: of an earlier Node of the same name, or one whose agent has
	// given its settings up and is to try them again. Empty if there is none.
	Replaces types.UID
	Spec     v1alpha1.ServiceProxyNodeSpec
	// Annotations are all annotations of the planner that the ServiceProxyNode is to have: see AnnotationAssigned,
	// AnnotationWanted and v1alpha1.AnnotationRetry.
	Annotations map[string]string
}

// Make plans the world. Planning a world to which the plan has been applied gives the same plan again.
func Make(world World) Plan {
	plan, _ := makePlan(&world)
	return plan
}

// makePlan returns the plan with the pools that it was worked out in.
func makePlan(world *World) (Plan, []*pool) {
	pools := newPools(world)
	objects := make(map[string]*v1alpha1.ServiceProxyNode, len(world.Objects))
	for i := range world.Objects {
		objects[world.Objects[i].Name] = &world.Objects[i]
	}

	plan := Plan{
		Statuses:    make(map[string]v1alpha1.ServiceProxyConfigStatus, len(pools)),
		Assignments: make([]Assignment, 0, len(world.Nodes)),
	}
	for _, node := range slices.SortedFunc(slices.Values(world.Nodes), byName) {
		m := &member{node: node, object: objects[node.Name]}
		if m.object != nil && isOrphan(m.object, node) {
			m.object, m.replaces = nil, m.object.UID
		}
		if holder := contend(pools, node, m.object); holder != nil {
			holder.members = append(holder.members, m)
		} else if m.object != nil {
			release(world, pools, m, &plan)
		}
	}
	for _, p := range pools {
		p.decide(&plan)
		plan.Statuses[p.config.Name] = p.status()
	}
	slices.SortFunc(plan.Assignments, func(a, b Assignment) int { return cmp.Compare(a.Node, b.Node) })
	if world.Hold != "" {
		plan.Assignments = nil
	}
	keepHistory(world, pools, &plan)
	return plan, pools
}

// again notes when time alone changes the plan.
func (p *Plan) again(at, now time.Time) {
	if at.After(now) && (p.Next.IsZero() || at.Before(p.Next)) {
		p.Next = at
	}
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
