// Package why says why a node has what it has, and what it waits for. The decisions are the planner's; here they are put
// into words.
package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// Answer says why a node has what it has. Its JSON form is stable: fields may be added, and none is renamed or removed.
type Answer struct {
	Node string `json:"node"`
	// Well is whether there is nothing to wait for and nothing to do.
	Well bool `json:"well"`
	// State is one of the states of package planner, and Message says it in words.
	State   planner.State `json:"state"`
	Message string        `json:"message"`
	// Until is when time alone changes the state.
	Until *time.Time `json:"until,omitempty"`
	// Config has the node.
	Config string `json:"config,omitempty"`
	// Given is the revision that the node was given, Goal what its config wants it to have, Runs what its kernel runs, and
	// Failed what its agent took back.
	Given  string        `json:"given,omitempty"`
	Goal   string        `json:"goal,omitempty"`
	Runs   string        `json:"runs,omitempty"`
	Failed string        `json:"failed,omitempty"`
	Mode   v1alpha1.Mode `json:"mode,omitempty"`
	// Configs are all configs, and how each stands to the node.
	Configs []Claim `json:"configs"`
	// Conditions are those of the ServiceProxyNode that say more than that all is well.
	Conditions []Condition `json:"conditions,omitempty"`
	// Next are commands that help, the first one first.
	Next []string `json:"next,omitempty"`
}

// Claim is how a config stands to the node, and why.
type Claim struct {
	Config   string           `json:"config"`
	Priority int32            `json:"priority"`
	Selector string           `json:"selector"`
	Standing planner.Standing `json:"standing"`
	Because  string           `json:"because"`
}

// Condition is what the agent says.
type Condition struct {
	Type    string                 `json:"type"`
	Status  metav1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason"`
	Message string                 `json:"message,omitempty"`
}

// Find returns the answer for a node, and whether there is one of that name.
func Find(world planner.World, node, namespace string) (Answer, bool) {
	world.Hold = hold(world.Configs)
	e, exists := planner.Explain(world, node)
	if !exists {
		return Answer{}, false
	}
	answer := Answer{
		Node: node, State: e.State, Message: e.Message, Config: e.Config, Given: e.Revision, Goal: e.Goal,
		Configs: []Claim{},
	}
	if !e.Until.IsZero() {
		answer.Until = &e.Until
	}
	for _, claim := range e.Claims {
		i := slices.IndexFunc(world.Configs, func(c v1alpha1.ServiceProxyConfig) bool { return c.Name == claim.Config })
		answer.Configs = append(answer.Configs, newClaim(claim, &e, &world.Configs[i]))
	}
	answer.Well = slices.Contains([]planner.State{planner.InOrder, planner.NotSelected, planner.Retained, planner.Released}, e.State)
	if e.Object != nil {
		answer.report(e.Object)
	}
	answer.Next = next(&answer, namespace)
	return answer, true
}

// hold returns why the operator gives nobody anything. It alone knows, and says so on every config.
func hold(configs []v1alpha1.ServiceProxyConfig) string {
	for i := range configs {
		stalled := meta.FindStatusCondition(configs[i].Status.Conditions, v1alpha1.ConditionStalled)
		if stalled != nil && stalled.Reason == v1alpha1.ReasonGuardNotEnforced {
			return stalled.Message
		}
	}
	return ""
}

// report adds what the agent says.
func (a *Answer) report(object *v1alpha1.ServiceProxyNode) {
	a.Runs, a.Failed, a.Mode = object.Status.AppliedRevision, object.Status.FailedRevision, object.Status.Mode
	for _, c := range object.Status.Conditions {
		if c.ObservedGeneration != object.Generation || isGood(c) {
			continue
		}
		a.Conditions = append(a.Conditions, Condition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message})
		if c.Type != v1alpha1.ConditionForeignProxy && c.Type != v1alpha1.ConditionDraining && a.State != planner.Released {
			a.Well = false
		}
	}
}

// isGood tells whether a condition says that all is well.
func isGood(c metav1.Condition) bool {
	switch c.Type {
	case v1alpha1.ConditionReady, v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed:
		return c.Status == metav1.ConditionTrue
	default:
		return c.Status == metav1.ConditionFalse
	}
}

func newClaim(claim planner.Claim, e *planner.Explanation, config *v1alpha1.ServiceProxyConfig) Claim {
	c := Claim{Config: claim.Config, Priority: claim.Priority, Standing: claim.Standing}
	selector, err := planner.Selector(config.Spec.NodeSelector)
	switch {
	case err != nil:
		c.Selector = "?"
	case selector.Empty():
		c.Selector = "every node"
	default:
		c.Selector = selector.String()
	}
	switch claim.Standing {
	case planner.Holds:
		c.Because = holds(e, claim)
	case planner.Tied:
		c.Because = fmt.Sprintf("selects the node with the same priority: %s", tie(e))
	case planner.Outranked:
		c.Because = fmt.Sprintf("selects the node, but %s has a higher priority", e.Config)
	case planner.Unreadable:
		c.Because = "its selector cannot be parsed"
	case planner.SelectsOthers:
		c.Because = "does not select the node"
		if requirements, selectable := selector.Requirements(); selectable {
			var unmet []string
			for i := range requirements {
				if !requirements[i].Matches(e.Node.Labels) {
					unmet = append(unmet, requirements[i].String())
				}
			}
			c.Because += ": its labels do not meet " + strings.Join(unmet, ", ")
		}
	}
	return c
}

// holds says why a config has the node.
func holds(e *planner.Explanation, claim planner.Claim) string {
	rivals := map[planner.Standing]int{}
	for _, other := range e.Claims {
		rivals[other.Standing]++
	}
	switch {
	case rivals[planner.Tied] > 0:
		return "has the node: " + tie(e)
	case rivals[planner.Outranked] > 0:
		return fmt.Sprintf("has the node: the highest priority, %d, of those that select it", claim.Priority)
	default:
		return "has the node: no other config selects it"
	}
}

// tie says who wins among configs of one priority.
func tie(e *planner.Explanation) string {
	if e.Object != nil && e.Object.Spec.ConfigRef.Name == e.Config {
		return e.Config + " had it first, and keeps it"
	}
	return e.Config + " is first by name"
}

// next returns the commands that help.
func next(a *Answer, namespace string) []string {
	const plugin = "kubectl serviceproxy "
	agent := fmt.Sprintf("kubectl -n %s get pods --field-selector spec.nodeName=%s", namespace, a.Node)
	switch a.State {
	case planner.Applying:
		return []string{agent}
	case planner.InLine, planner.Proving, planner.Due:
		return []string{plugin + "status --watch"}
	case planner.Paused:
		return []string{plugin + "resume " + a.Config}
	case planner.Stopped, planner.Failed:
		return []string{"kubectl get events --field-selector involvedObject.name=" + a.Node,
			plugin + "rollback " + a.Config, plugin + "retry " + a.Config + "  # when the cause is gone"}
	case planner.NodeNotReady:
		return []string{"kubectl describe node " + a.Node}
	case planner.Held:
		return []string{plugin + "status"}
	case planner.AgentsUpdating:
		return []string{fmt.Sprintf("kubectl -n %s rollout status daemonset service-proxy-agent", namespace)}
	}
	if !a.Well {
		return []string{"kubectl describe spn " + a.Node}
	}
	return nil
}

// Print adds the answer to a page.
func (a *Answer) Print(page *output.Page) {
	colour := output.Good
	switch {
	case a.State == planner.Failed || a.State == planner.Stopped || a.State == planner.Held:
		colour = output.Bad
	case !a.Well:
		colour = output.Warn
	}
	page.Printf("%s: %s.\n", page.In(output.Bold, "Node "+a.Node), page.In(colour, string(a.State))+": "+a.Message)
	if len(a.Configs) > 0 {
		page.Printf("\n")
		rows := [][]output.Cell{header("CONFIG", "PRIORITY", "SELECTS", "WHY")}
		for _, c := range a.Configs {
			rows = append(rows, output.Row(c.Config, fmt.Sprint(c.Priority), c.Selector, c.Because))
		}
		page.Table("", rows...)
	}
	if a.Given != "" {
		page.Printf("\n")
		rows := [][]output.Cell{output.Row("given", a.Given)}
		if a.Goal != "" && a.Goal != a.Given {
			rows = append(rows, output.Row("is to get", a.Goal))
		}
		rows = append(rows, output.Row("runs", a.runs()))
		if a.Failed != "" {
			rows = append(rows, output.Row("took back", a.Failed))
		}
		page.Table("", rows...)
	}
	if len(a.Conditions) > 0 {
		page.Printf("\nIts agent says:\n")
		for _, c := range a.Conditions {
			page.Printf("  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	for i, command := range a.Next {
		if i == 0 {
			page.Printf("\n")
		}
		page.Printf("%s %s\n", page.In(output.Faint, "->"), command)
	}
}

func (a *Answer) runs() string {
	if a.Runs == "" {
		return "nothing that its agent has told of"
	}
	return fmt.Sprintf("%s, in mode %s", a.Runs, a.Mode)
}

func header(texts ...string) []output.Cell {
	row := output.Row(texts...)
	for i := range row {
		row[i].Colour = output.Faint
	}
	return row
}
