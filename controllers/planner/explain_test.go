package planner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// TestExplain tells short stories, with a plan after every line, and asks about one node at the end.
func TestExplain(t *testing.T) {
	const (
		pair     = "node a\nnode b\n"
		rolled   = pair + "config default min-ready=0 max=1\nagents synced\n"
		changing = rolled + "config default min-ready=0 max=1 resync=60\n"
	)
	tests := map[string]struct {
		story string
		node  string
		// want is Config, Revision, Goal, State, Until and Message in words, then the claims.
		want string
	}{
		"in order": {rolled, "a", `
			default has it: default-fe352139b3, to be default-fe352139b3
			InOrder: it runs revision default-fe352139b3
			default 0 Holds`},
		"its agent has not said anything": {pair + "config default", "a", `
			default has it: default-fe352139b3, to be default-fe352139b3
			Applying until 12:05:00: its agent is on the way to revision default-fe352139b3; it has failed if it is not there by 12:05:00 UTC
			default 0 Holds`},
		"its turn comes later": {changing, "b", `
			default has it: default-fe352139b3, to be default-a1fb110ca3
			InLine: it has to wait for other nodes: 1 node follows
			default 0 Holds`},
		"a canary goes first": {
			rolled + "config default min-ready=0 canary=1 bake=30 resync=60\nagents synced", "b", `
			default has it: default-fe352139b3, to be default-a1fb110ca3
			InLine until 12:00:30: it has to wait for other nodes: 1 node follows at 12:00:30 UTC if canary node a is in sync until then
			default 0 Holds`},
		"it has to stay in sync": {
			rolled + "config default max=1 min-ready=20 resync=60\nwait 1s\nagents synced", "a", `
			default has it: default-a1fb110ca3, to be default-a1fb110ca3
			Proving until 12:00:20: it is in sync, and has to stay so until 12:00:20 UTC
			default 0 Holds`},
		"paused": {rolled + "config default paused min-ready=0 max=1 resync=60", "a", `
			default has it: default-fe352139b3, to be default-a1fb110ca3
			Paused: spec.rollout.state of its config is Paused
			default 0 Holds`},
		"it failed": {changing + "agent a rolledback ProbeFailed no answer", "a", `
			default has it: default-a1fb110ca3, to be default-a1fb110ca3
			Failed: ProbeFailed: no answer
			default 0 Holds`},
		"another one failed": {changing + "agent a rolledback ProbeFailed no answer", "b", `
			default has it: default-fe352139b3, to be default-a1fb110ca3
			Stopped: the rollout of revision default-a1fb110ca3 was stopped: 1 node failed with revision default-a1fb110ca3: ProbeFailed on a: no answer
			default 0 Holds`},
		"its agent tries again": {changing + "agent a failed Programmed ApplyFailed busy", "a", `
			default has it: default-a1fb110ca3, to be default-a1fb110ca3
			Applying until 12:05:00: its agent is on the way to revision default-a1fb110ca3, and tries again: ApplyFailed: busy; it has failed if it is not there by 12:05:00 UTC
			default 0 Holds`},
		"the Node is not Ready": {rolled + "node b NotReady\nconfig default min-ready=0 max=100% resync=60", "b", `
			default has it: default-fe352139b3, to be default-a1fb110ca3
			NodeNotReady until 12:05:00: its Node is not Ready; if it still is not at 12:05:00 UTC, it is given the settings as it is
			default 0 Holds`},
		"agents are updated": {rolled + "agents updating 1 of 2\nconfig default min-ready=0 max=1 resync=60", "a", `
			default has it: default-fe352139b3, to be default-a1fb110ca3
			AgentsUpdating: 1 of 2
			default 0 Holds`},
		"several configs": {
			"node a role=edge\nconfig default priority=10\nagents synced\nconfig edge priority=20 selector=role=edge\n" +
				"config late priority=20\nconfig other priority=30 selector=role=other\nconfig odd selector=!\nagents synced", "a", `
			edge has it: default-fe352139b3, to be edge-fe352139b3
			ChangingPools until 12:00:30: it changes over from another config at 12:00:30 UTC
			edge 20 Holds
			other 30 SelectsOthers
			late 20 Tied
			default 10 Outranked
			odd 0 Unreadable`},
		"no config selects it": {"node a\nconfig edge selector=role=edge", "a", `
			NotSelected: no config selects it: its agent touches nothing
			edge 0 SelectsOthers`},
		"no config selects it any more": {rolled + "config default selector=role=edge", "a", `
			default-fe352139b3
			Retained: no config selects it any more: it keeps what config default gave it, and follows Services
			default 0 SelectsOthers`},
		"it gives back soon": {rolled + "config default selector=role=edge on-release=Cleanup", "a", `
			default-fe352139b3
			Releasing until 12:00:30: no config selects it any more: its agent removes what it made after 12:00:30 UTC
			default 0 SelectsOthers`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &story{world: newSmallWorld(t)}
			for line := range strings.Lines(test.story) {
				s.world.happen(strings.Fields(line))
				s.plan()
			}
			e, exists := planner.Explain(s.world.world(), test.node)
			if !exists {
				t.Fatalf("there is no node %s", test.node)
			}
			want := strings.ReplaceAll(strings.TrimSpace(test.want), "\t", "")
			if diff := cmp.Diff(want, inWords(e)); diff != "" {
				t.Errorf("another explanation (-want +got):\n%s", diff)
			}
		})
	}
	if _, exists := planner.Explain(planner.World{}, "a"); exists {
		t.Error("a node that does not exist is explained")
	}
}

func inWords(e planner.Explanation) string {
	var lines []string
	switch {
	case e.Config != "":
		lines = append(lines, fmt.Sprintf("%s has it: %s, to be %s", e.Config, e.Revision, e.Goal))
	case e.Revision != "":
		lines = append(lines, e.Revision)
	}
	state := string(e.State)
	if !e.Until.IsZero() {
		state += " until " + e.Until.Format(time.TimeOnly)
	}
	lines = append(lines, state+": "+e.Message)
	for _, c := range e.Claims {
		lines = append(lines, fmt.Sprintf("%s %d %s", c.Config, c.Priority, c.Standing))
	}
	return strings.Join(lines, "\n")
}
