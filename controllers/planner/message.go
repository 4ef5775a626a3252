package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// Messages are for people, who read them in a terminal: they name a few and count the rest.
const (
	maxMessage = 512 // characters, the limit of failedNodes[].message
	maxReason  = 63  // characters, the limit of failedNodes[].reason
	maxNamed   = 3   // names or causes in one message
	maxCause   = 120 // characters of one of several causes
)

func (p *pool) invalidMessage() string {
	message := p.invalid.Error()
	if len(p.members) > 0 {
		message += "; " + count(len(p.members), "node keeps what it has", "nodes keep what they have")
	}
	return message
}

func (p *pool) noNodesMessage() string {
	if p.matched == 0 {
		return "spec.nodeSelector selects no node"
	}
	return fmt.Sprintf("configs of higher priority have %s that spec.nodeSelector selects",
		count(int(p.matched), "node", "nodes"))
}

func (p *pool) readyMessage() string { return p.progress() + p.unavailableNote() }

// waitingMessage tells who is waited for, and what for.
func (p *pool) waitingMessage() string {
	phase, message := &p.phase, p.progress()
	if len(phase.waiting) > 0 {
		message += "; waiting for " + name(phase.waiting)
	}
	if len(phase.absent) > 0 {
		message += fmt.Sprintf("; waiting for %s, where the Node is not Ready, up to %s", name(phase.absent), p.rollout.timeout)
	}
	if len(phase.delayed) > 0 {
		message += fmt.Sprintf("; %s from another config after %s", takeOver(phase.delayed), p.rollout.delay)
	}
	if len(phase.failures) > 0 {
		message += "; " + p.failedMessage()
	}
	return message + p.followNote() + p.unavailableNote()
}

// followNote tells when the nodes that are left get their turn.
func (p *pool) followNote() string {
	phase := &p.phase
	left := len(phase.pending) - len(phase.absent) - len(phase.delayed)
	if left <= 0 {
		return ""
	}
	follow := "; " + count(left, "node follows", "nodes follow")
	switch {
	case p.world.Updating != "":
		return follow + " later: " + p.world.Updating
	case phase.canary && phase.eligible == 0:
		return follow + " a canary node, and spec.rollout.canary selects none that could be one"
	case phase.isStuck() && len(p.outOfOrder()) > 0:
		return fmt.Sprintf("%s when fewer than %d are out of order, as %s", follow, phase.limit, are(p.outOfOrder()))
	case phase.canary && phase.proven.IsZero():
		return fmt.Sprintf("%s %s from when canary %s in sync", follow, max(p.rollout.bake, p.rollout.minReady), are(phase.canaries))
	case phase.canary:
		return fmt.Sprintf("%s at %s if canary %s in sync until then", follow, clock(phase.proven),
			are(phase.canaries))
	default:
		return follow
	}
}

// outOfOrder returns the nodes that use up spec.rollout.maxUnavailable.
func (p *pool) outOfOrder() []string {
	var nodes []string
	for _, m := range p.members {
		if !m.gone && !m.available() {
			nodes = append(nodes, m.node.Name)
		}
	}
	return nodes
}

func are(nodes []string) string {
	if len(nodes) == 1 {
		return "node " + name(nodes) + " is"
	}
	return "nodes " + name(nodes) + " are"
}

func takeOver(nodes []string) string { return "taking over " + name(nodes) }

func (p *pool) pausedMessage() string {
	return fmt.Sprintf("%s; spec.rollout.state is Paused, and %s without it", p.progress(),
		count(len(p.phase.pending), "node is", "nodes are"))
}

// haltedMessage is what is remembered of a rollout that is halted.
func (p *pool) haltedMessage(failed []v1alpha1.FailedNode) string {
	return shorten(fmt.Sprintf("%s with revision %s: %s",
		count(len(failed), "node failed", "nodes failed"), p.update, causes(failed)), maxMessage)
}

func (p *pool) stoppedMessage() string {
	message := shorten(p.halted.Message, maxMessage/2)
	if n := len(p.phase.pending); n > 0 {
		message += "; " + count(n, "node keeps what it has", "nodes keep what they have")
	}
	return message + tryAgain
}

// tryAgain tells what ends a halted rollout.
const tryAgain = "; change the settings, or the annotation " + v1alpha1.AnnotationRetry + " to try again"

func (p *pool) rolledBackMessage() string {
	message := shorten(p.halted.Message, maxMessage/2)
	if n := len(p.phase.pending); n > 0 {
		message += fmt.Sprintf("; %s the way back to revision %s", count(n, "node waits for", "nodes wait for"), p.current)
	} else if len(p.phase.waiting) > 0 {
		message += fmt.Sprintf("; %s on the way back to revision %s", name(p.phase.waiting), p.current)
	} else {
		message += fmt.Sprintf("; %s revision %s again", count(len(p.members), "node has", "nodes have"), p.current)
	}
	return message + tryAgain
}

func (p *pool) progress() string {
	return fmt.Sprintf("%d of %s revision %s", p.ready, count(len(p.members), "node runs", "nodes run"), p.update)
}

// unavailableNote tells which nodes are not waited for.
func (p *pool) unavailableNote() string {
	var nodes []string
	for _, m := range p.members {
		if !m.node.Ready && !slices.Contains(p.phase.absent, m.node.Name) {
			nodes = append(nodes, m.node.Name)
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return "; not waiting for " + name(nodes) + ", where the Node is not Ready"
}

func (p *pool) sharedMessage() string {
	rivals := make([]string, 0, len(p.shared))
	for _, rival := range sortedKeys(p.shared) {
		rivals = append(rivals, fmt.Sprintf("%s on %s", rival, name(p.shared[rival])))
	}
	return fmt.Sprintf("priority %d is shared with %s", p.priority, list(rivals, "; "))
}

func (p *pool) lostMessage() string {
	holders := make([]string, 0, len(p.lost))
	for _, holder := range sortedKeys(p.lost) {
		holders = append(holders, fmt.Sprintf("%s keeps %s", holder, name(p.lost[holder])))
	}
	return fmt.Sprintf("configs of the same priority %d keep nodes that are selected here: %s; "+
		"change the priority or the node selector of one of them", p.priority, list(holders, "; "))
}

func (p *pool) failedMessage() string {
	failed := p.phase.failures
	return fmt.Sprintf("%d of %s: %s",
		len(failed), count(len(p.members), "node failed", "nodes failed"), causes(failed))
}

// causes tells why nodes failed, the most frequent cause first.
func causes(failed []v1alpha1.FailedNode) string {
	type cause struct{ reason, message string }
	nodes := map[cause][]string{}
	for _, f := range failed {
		c := cause{f.Reason, f.Message}
		nodes[c] = append(nodes[c], f.Name)
	}
	ordered := make([]cause, 0, len(nodes))
	for c := range nodes {
		ordered = append(ordered, c)
	}
	slices.SortFunc(ordered, func(a, b cause) int {
		return cmp.Or(cmp.Compare(len(nodes[b]), len(nodes[a])),
			strings.Compare(a.reason, b.reason), strings.Compare(a.message, b.message))
	})
	told := make([]string, 0, len(ordered))
	for _, c := range ordered {
		told = append(told, fmt.Sprintf("%s on %s: %s", c.reason, name(nodes[c]), shorten(c.message, maxCause)))
	}
	return list(told, "; ")
}

// name lists nodes: the first few by name, the rest by number.
func name(nodes []string) string { return list(nodes, ", ") }

func list(entries []string, separator string) string {
	if len(entries) <= maxNamed {
		return strings.Join(entries, separator)
	}
	return fmt.Sprintf("%s and %d more", strings.Join(entries[:maxNamed], separator), len(entries)-maxNamed)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// shorten cuts a text to a number of characters, and shows that it did.
func shorten(text string, limit int) string {
	const ellipsis = "..."
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit-len(ellipsis)]) + ellipsis
}
