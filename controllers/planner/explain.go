package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// Standing is how a config stands to a node.
type Standing string

// The standings. A node has one config at most that holds it.
const (
	// Holds says that the node has the config.
	Holds Standing = "Holds"
	// Tied says that the config selects the node with the priority of the one that holds it.
	Tied Standing = "Tied"
	// Outranked says that the config selects the node, and that the one that holds it has a higher priority.
	Outranked Standing = "Outranked"
	// SelectsOthers says that the config does not select the node.
	SelectsOthers Standing = "SelectsOthers"
	// Unreadable says that a selector of the config cannot be parsed, so that it takes no further node.
	Unreadable Standing = "Unreadable"
)

// Claim is how a config stands to a node, and with what priority.
type Claim struct {
	Config   string
	Priority int32
	Standing Standing
}

// State is what a node waits for, or that it does not.
type State string

// The states of a node.
const (
	// InOrder says that the node runs what it is to run, and has shown it.
	InOrder State = "InOrder"
	// Applying says that its agent is on the way to what it was given.
	Applying State = "Applying"
	// Proving says that it is in sync with what it was given, and has to stay so for a while.
	Proving State = "Proving"
	// Due says that it is given something else now.
	Due State = "Due"
	// InLine says that it has to wait for other nodes.
	InLine State = "InLine"
	// ChangingPools says that another config selects it, and has to do so for a while.
	ChangingPools State = "ChangingPools"
	// NodeNotReady says that its Node is not Ready, so nobody knows.
	NodeNotReady State = "NodeNotReady"
	// Paused says that the rollout is.
	Paused State = "Paused"
	// AgentsUpdating says that no node changes settings while the agents themselves are changed.
	AgentsUpdating State = "AgentsUpdating"
	// Stopped says that the rollout was stopped because other nodes failed.
	Stopped State = "Stopped"
	// Failed says that the node did not take what it was given.
	Failed State = "Failed"
	// Held says that no node is given anything, for the reason that all configs tell.
	Held State = "Held"
	// NotSelected says that no config selects it, and it has nothing.
	NotSelected State = "NotSelected"
	// Retained says that no config selects it any more, and it keeps what it has.
	Retained State = "Retained"
	// Releasing says that it gives back what it has, or will soon.
	Releasing State = "Releasing"
	// Released says that it has given everything back.
	Released State = "Released"
)

// Explanation says why a node has what it has, and what it waits for.
type Explanation struct {
	Node Node
	// Object is its ServiceProxyNode, or nil if it has none.
	Object *v1alpha1.ServiceProxyNode
	// Claims are those of all configs: the one that holds the node, then the others from the highest priority on.
	Claims []Claim
	// Config holds the node; empty if none does.
	Config string
	// Revision is what it has been given, and Goal what its config wants it to have. Either may be empty.
	Revision, Goal string
	State          State
	// Message says it in words.
	Message string
	// Until is when time alone changes the state; zero if it does not.
	Until time.Time
}

// Explain explains one node of a world, as Make decides about it. It tells whether there is a node of that name.
func Explain(world World, node string) (Explanation, bool) {
	_, pools := makePlan(&world)
	i := slices.IndexFunc(world.Nodes, func(n Node) bool { return n.Name == node })
	if i < 0 {
		return Explanation{}, false
	}
	e := Explanation{Node: world.Nodes[i]}
	for j := range world.Objects {
		if object := &world.Objects[j]; object.Name == node && !isOrphan(object, e.Node) {
			e.Object, e.Revision = object, object.Spec.Revision
		}
	}
	for _, p := range pools {
		for _, m := range p.members {
			if m.node.Name == node {
				e.claims(pools, p)
				e.Config, e.Goal = p.config.Name, p.phase.goal
				e.State, e.Message, e.Until = p.explain(m)
				return e, true
			}
		}
	}
	e.claims(pools, nil)
	e.released(&world, pools)
	return e, true
}

// claims notes how all pools stand to the node that one of them, or none, holds.
func (e *Explanation) claims(pools []*pool, holder *pool) {
	for _, p := range pools {
		claim := Claim{Config: p.config.Name, Priority: p.priority}
		switch {
		case p == holder:
			claim.Standing = Holds
		case p.invalid != nil:
			claim.Standing = Unreadable
		case !p.selector.Matches(e.Node.Labels):
			claim.Standing = SelectsOthers
		case holder != nil && p.priority == holder.priority:
			claim.Standing = Tied
		default:
			claim.Standing = Outranked
		}
		e.Claims = append(e.Claims, claim)
	}
	slices.SortStableFunc(e.Claims, func(a, b Claim) int {
		switch {
		case a.Standing == Holds:
			return -1
		case b.Standing == Holds:
			return 1
		}
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Config, b.Config))
	})
}

// explain tells what a node of the pool waits for, once everything has been decided.
func (p *pool) explain(m *member) (state State, message string, until time.Time) {
	switch {
	case p.invalid != nil:
		return Held, p.invalidMessage(), until
	case p.world.Hold != "":
		return Held, p.world.Hold, until
	case m.failure != nil && !m.trying && m.moves == "":
		return Failed, m.failure.Reason + ": " + m.failure.Message, until
	case m.moves != "":
		return Due, "it is given revision " + m.moves + " now", until
	case p.has(m, p.phase.goal):
		return p.explainHas(m)
	default:
		return p.explainPending(m)
	}
}

// explainHas is explain for a node that has what it is to have.
func (p *pool) explainHas(m *member) (state State, message string, until time.Time) {
	switch {
	case m.proven && m.node.Ready && m.node.AgentDown:
		return Applying, "it is in sync as far as is known, but the Pod of its agent is not ready", until
	case m.proven && m.node.Ready:
		return InOrder, "it runs revision " + m.revision, until
	case !m.node.Ready:
		return NodeNotReady, "its Node is not Ready, and nobody waits for it", until
	case m.inSync:
		until = m.since.Add(p.rollout.minReady)
		return Proving, "it is in sync, and has to stay so until " + clock(until), until
	default:
		until = later(m.since, m.node.Since.Time).Add(p.rollout.timeout)
		message = "its agent is on the way to revision " + m.revision
		if m.failure != nil {
			message += ", and tries again: " + m.failure.Reason + ": " + m.failure.Message
		}
		return Applying, message + "; it has failed if it is not there by " + clock(until), until
	}
}

// explainPending is explain for a node that has not what it is to have.
func (p *pool) explainPending(m *member) (state State, message string, until time.Time) {
	phase := &p.phase
	switch {
	case p.isPaused():
		return Paused, "spec.rollout.state of its config is Paused", until
	case p.halted != nil && p.halted.OnFailure == v1alpha1.OnFailureHalt:
		return Stopped, "the rollout of revision " + p.update + " was stopped: " + p.halted.Message, until
	case p.world.Updating != "":
		return AgentsUpdating, p.world.Updating, until
	case slices.Contains(phase.delayed, m.node.Name):
		until = m.wantedSince(p.config.Name, p.world.Now.Time).Add(p.rollout.delay)
		return ChangingPools, "it changes over from another config at " + clock(until), until
	case slices.Contains(phase.absent, m.node.Name):
		until = m.node.Since.Add(p.rollout.timeout)
		return NodeNotReady, "its Node is not Ready; if it still is not at " + clock(until) + ", it is given the settings as it is", until
	}
	// What the config says of the nodes that follow, which this one is among.
	return InLine, "it has to wait for other nodes: " + strings.TrimPrefix(p.followNote(), "; "), phase.proven
}

// released explains a node that no config selects.
func (e *Explanation) released(world *World, pools []*pool) {
	switch {
	case e.Object == nil:
		e.State, e.Message = NotSelected, "no config selects it: its agent touches nothing"
		return
	case e.Object.Spec.Action == v1alpha1.ActionRelease:
		e.State, e.Message = Releasing, "no config selects it any more: its agent removes what it made"
		if ready := isReported(e.Object, v1alpha1.ConditionReady, "True"); ready != nil && ready.Reason == v1alpha1.ReasonReleased {
			e.State, e.Message = Released, "no config selects it any more: its agent has removed all that it made"
		}
		return
	}
	last := e.Object.Spec.ConfigRef.Name
	policy, delay := releasePolicy(world, pools, last)
	if policy != v1alpha1.ReleaseCleanup {
		e.State = Retained
		e.Message = fmt.Sprintf("no config selects it any more: it keeps what config %s gave it, and follows Services", last)
		return
	}
	m := &member{object: e.Object}
	e.Until = m.wantedSince("", world.Now.Time).Add(delay)
	e.State, e.Message = Releasing, "no config selects it any more: its agent removes what it made after "+clock(e.Until)
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly + " MST") }
