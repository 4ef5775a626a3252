package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Messages are for people, who read them in a terminal: they name a few and count the rest.
const (
	maxMessage = 512 // characters, the limit of failedNodes[].message
	maxReason  = 63  // characters, the limit of failedNodes[].reason
	maxNamed   = 3   // names or causes in one message
	maxCause   = 120 // characters of one of several causes
)

func (p *pool) invalidMessage() string {
	message := fmt.Sprintf("spec.nodeSelector cannot be parsed: %v", p.invalid)
	if p.assigned > 0 {
		message += fmt.Sprintf("; %s what it has", count(int(p.assigned), "node keeps", "nodes keep"))
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

func (p *pool) waitingMessage() string {
	return p.progress() + "; waiting for " + name(p.waiting) + p.unavailableNote()
}

func (p *pool) progress() string {
	return fmt.Sprintf("%d of %s revision %s", p.ready, count(int(p.assigned), "node runs", "nodes run"), p.revision)
}

func (p *pool) unavailableNote() string {
	if len(p.unavailable) == 0 {
		return ""
	}
	return "; not waiting for " + name(p.unavailable) + ", where the Node is not Ready"
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

// failedMessage tells the causes of the failures, the most frequent first.
func (p *pool) failedMessage() string {
	type cause struct{ reason, message string }
	nodes := map[cause][]string{}
	for _, f := range p.failures {
		c := cause{f.Reason, f.Message}
		nodes[c] = append(nodes[c], f.Name)
	}
	causes := make([]cause, 0, len(nodes))
	for c := range nodes {
		causes = append(causes, c)
	}
	slices.SortFunc(causes, func(a, b cause) int {
		return cmp.Or(cmp.Compare(len(nodes[b]), len(nodes[a])),
			strings.Compare(a.reason, b.reason), strings.Compare(a.message, b.message))
	})
	told := make([]string, 0, len(causes))
	for _, c := range causes {
		told = append(told, fmt.Sprintf("%s on %s: %s", c.reason, name(nodes[c]), shorten(c.message, maxCause)))
	}
	return fmt.Sprintf("%d of %s: %s",
		len(p.failures), count(int(p.assigned), "node failed", "nodes failed"), list(told, "; "))
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
