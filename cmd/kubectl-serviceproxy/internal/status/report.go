// Package status says how all pools and nodes are, what is wrong first, on one screen however many nodes there are.
package status

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// View is what a report is made of.
type View struct {
	Configs []v1alpha1.ServiceProxyConfig
	Objects []v1alpha1.ServiceProxyNode
	// Nodes is the number of Nodes in the cluster; nil where the user may not see them.
	Nodes *int
	// Namespace is where the operator and the agents are.
	Namespace string
	Now       time.Time
}

// Report is how all pools and nodes are. Its JSON form is stable: fields may be added, and none is renamed or removed.
type Report struct {
	// Well is whether every pool is Ready and there is no problem that is more than a note.
	Well bool `json:"well"`
	// Summary says it in one line.
	Summary string `json:"summary"`
	// Problems are what is wrong, the worst first.
	Problems []Problem `json:"problems"`
	// Pools are all pools, in the order of their names.
	Pools []Pool `json:"pools"`
	Nodes Nodes  `json:"nodes"`
}

// Severity says how bad a problem is.
type Severity string

// The severities, the worst first.
const (
	// Error needs somebody to act.
	Error Severity = "Error"
	// Warning may need somebody to act.
	Warning Severity = "Warning"
	// Progress will be over by itself.
	Progress Severity = "Progress"
	// Note is worth knowing, and nothing is wrong.
	Note Severity = "Note"
)

func (s Severity) rank() int {
	return slices.Index([]Severity{Error, Warning, Progress, Note}, s)
}

// Problem is something that is wrong with a pool, or with some nodes in the same way.
type Problem struct {
	Severity Severity `json:"severity"`
	// Pool is set if it is about a pool, Nodes if it is about nodes, in the order of their names.
	Pool  string   `json:"pool,omitempty"`
	Nodes []string `json:"nodes,omitempty"`
	// Reason is the reason of the condition that says so, or Silent where there is no condition.
	Reason string `json:"reason"`
	// Message is that of the condition; of several nodes the most frequent one.
	Message string `json:"message"`
	// Next are commands that help, the first one first.
	Next []string `json:"next,omitempty"`
}

// Pool is how one pool is.
type Pool struct {
	Name     string        `json:"name"`
	Mode     v1alpha1.Mode `json:"mode"`
	Priority int32         `json:"priority"`
	Ready    bool          `json:"ready"`
	// State is the reason of Ready, or of Reconciling while it is rolling out.
	State   string `json:"state"`
	Message string `json:"message"`
	Paused  bool   `json:"paused"`
	// CurrentRevision is where the nodes come from and UpdateRevision where they go; the same when they are there.
	CurrentRevision string `json:"currentRevision,omitempty"`
	UpdateRevision  string `json:"updateRevision,omitempty"`
	// Numbers of nodes, as in the status of the config.
	Assigned    int32 `json:"assigned"`
	Updated     int32 `json:"updated"`
	InSync      int32 `json:"inSync"`
	Failed      int32 `json:"failed"`
	Unavailable int32 `json:"unavailable"`
}

// Nodes counts the nodes of the cluster.
type Nodes struct {
	// Total is missing where the user may not see Nodes.
	Total *int `json:"total,omitempty"`
	// Assigned have a config, InSync are those of them whose agent says so, and Problems those with an error or a warning.
	Assigned int `json:"assigned"`
	InSync   int `json:"inSync"`
	Problems int `json:"problems"`
	// Unassigned have none; missing where the user may not see Nodes.
	Unassigned *int `json:"unassigned,omitempty"`
}

// Make makes a report.
func Make(view View) Report {
	report := Report{Problems: []Problem{}, Pools: []Pool{}, Nodes: Nodes{Total: view.Nodes}}
	for i := range view.Configs {
		config := &view.Configs[i]
		report.Pools = append(report.Pools, newPool(config))
		report.Problems = append(report.Problems, poolProblems(config, view.Namespace)...)
	}
	slices.SortFunc(report.Pools, func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) })
	report.Problems = append(report.Problems, countNodes(&report.Nodes, view)...)
	slices.SortStableFunc(report.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), cmp.Compare(len(b.Nodes), len(a.Nodes)),
			cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Reason, b.Reason))
	})
	report.Well = !slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Severity != Note })
	report.Summary = report.summary()
	return report
}

func newPool(config *v1alpha1.ServiceProxyConfig) Pool {
	status := &config.Status
	counts := ptr.Deref(status.Nodes, v1alpha1.NodeCounts{})
	pool := Pool{
		Name: config.Name, Mode: config.Spec.Mode, Priority: ptr.Deref(config.Spec.Priority, 0),
		Paused:          config.Spec.Rollout.State == v1alpha1.RolloutPaused,
		CurrentRevision: status.CurrentRevision, UpdateRevision: status.UpdateRevision,
		Assigned: ptr.Deref(counts.Assigned, 0), Updated: ptr.Deref(counts.Updated, 0), InSync: ptr.Deref(counts.Ready, 0),
		Failed: ptr.Deref(counts.Failed, 0), Unavailable: ptr.Deref(counts.Unavailable, 0),
	}
	ready := observed(status.Conditions, v1alpha1.ConditionReady, config.Generation)
	if ready == nil {
		pool.State, pool.Message = notObserved, notObservedMessage(config)
		return pool
	}
	pool.Ready = ready.Status == metav1.ConditionTrue
	pool.State, pool.Message = ready.Reason, ready.Message
	if going := observed(status.Conditions, v1alpha1.ConditionReconciling, config.Generation); going != nil {
		pool.State = going.Reason
	}
	return pool
}

// countNodes counts the nodes and returns what is wrong with them, one problem for each reason.
func countNodes(nodes *Nodes, view View) []Problem {
	byReason := map[finding]map[string][]string{} // to messages, to nodes
	for i := range view.Objects {
		object := &view.Objects[i]
		if object.Spec.Action == v1alpha1.ActionRelease {
			continue
		}
		nodes.Assigned++
		ready := observed(object.Status.Conditions, v1alpha1.ConditionReady, object.Generation)
		if ready != nil && ready.Status == metav1.ConditionTrue {
			nodes.InSync++
		}
		found, message := examine(object, view.Now)
		if found == (finding{}) {
			continue
		}
		if found.severity != Note {
			nodes.Problems++
		}
		if byReason[found] == nil {
			byReason[found] = map[string][]string{}
		}
		byReason[found][message] = append(byReason[found][message], object.Name)
	}
	if nodes.Total != nil {
		nodes.Unassigned = new(max(0, *nodes.Total-nodes.Assigned))
	}
	problems := make([]Problem, 0, len(byReason))
	for found, byMessage := range byReason {
		problems = append(problems, together(found, byMessage, view.Namespace))
	}
	return problems
}

// together makes one problem of all nodes that have it.
func together(found finding, byMessage map[string][]string, namespace string) Problem {
	problem := Problem{Severity: found.severity, Reason: found.reason}
	most := 0
	for message, nodes := range byMessage {
		if len(nodes) > most || len(nodes) == most && message < problem.Message {
			most, problem.Message = len(nodes), message
		}
		problem.Nodes = append(problem.Nodes, nodes...)
	}
	slices.Sort(problem.Nodes)
	if others := len(byMessage) - 1; others > 0 {
		problem.Message += fmt.Sprintf(" (and %s)", count(others, "other message", "other messages"))
	}
	problem.Next = nodeNext(found, problem.Nodes[0], namespace)
	return problem
}

func (r *Report) summary() string {
	nodes := count(r.Nodes.Assigned, "node", "nodes")
	none := ""
	if n := ptr.Deref(r.Nodes.Unassigned, 0); n > 0 {
		none = fmt.Sprintf("; %s no config", count(n, "node has", "nodes have"))
	}
	switch {
	case len(r.Pools) == 0 && r.Nodes.Assigned == 0:
		return "Nothing to do: there is no ServiceProxyConfig, so no node is touched"
	case r.Well:
		return fmt.Sprintf("All is well: %s with %s, %d in sync%s", count(len(r.Pools), "pool", "pools"), nodes, r.Nodes.InSync, none)
	}
	counts := map[Severity]int{}
	for _, p := range r.Problems {
		counts[p.Severity]++
	}
	switch {
	case counts[Error] > 0:
		return fmt.Sprintf("Not well: %s; %d of %s in sync%s", count(counts[Error], "error", "errors"), r.Nodes.InSync, nodes, none)
	case counts[Warning] > 0:
		return fmt.Sprintf("Look here: %s; %d of %s in sync%s", count(counts[Warning], "warning", "warnings"), r.Nodes.InSync, nodes, none)
	default:
		return fmt.Sprintf("On the way: %d of %s in sync%s", r.Nodes.InSync, nodes, none)
	}
}

// observed returns a condition that speaks of a generation, or nil.
func observed(conditions []metav1.Condition, kind string, generation int64) *metav1.Condition {
	if c := meta.FindStatusCondition(conditions, kind); c != nil && c.ObservedGeneration == generation {
		return c
	}
	return nil
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
