package planner_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// The stories in testdata tell, step by step, what happens in a cluster and what the planner makes of it. Lines that
// begin with ">" are events, and the indented lines after them are what the planner says: who is assigned what, and
// every config whose status changed, with what Flux and others read from it (kstatus). Everything else is prose.
//
//	> node NAME [LABEL=VALUE ...] [NotReady]      a Node is made or changed; zone=ZONE is its zone
//	> rebuild NAME                                a Node is deleted and another takes its name
//	> delete node NAME                            a Node is deleted, and its ServiceProxyNode with it
//	> config NAME [WORD ...]                      a config is applied; setWord knows the words
//	> delete config NAME
//	> retry NAME VALUE                            the annotation serviceproxy.io/retry of a config is set
//	> agent NAME synced|applied|down|up           an agent reports on its assignment, or its Pod does
//	> agent NAME failed|rolledback ...            CONDITION REASON MESSAGE, or REASON MESSAGE
//	> agents synced                               all agents do
//	> agents updating MESSAGE                     the DaemonSet of the agents is updated, until "agents updated"
//	> wait DURATION
//	> run                                         all agents are in sync with whatever they are given, and time goes on,
//	                                              until there is nothing left to do
//
// At every step the operator is killed after each of its writes, in thought: what it does then has to come to the same.
// After a change, read what `go test ./controllers/planner -update` writes.

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write what the planner says into the stories")
	os.Exit(m.Run())
}

func TestStories(t *testing.T) {
	update := flag.Lookup("update").Value.String() == "true"
	files, err := filepath.Glob("testdata/*.story")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".story"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(want))
			if update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the planner says something else (-want +got):\n%s", diff)
			}
		})
	}
}

// tell returns the story with the lines of the planner written anew.
func tell(t *testing.T, text string) string {
	t.Helper()
	s := &story{world: newSmallWorld(t)}
	pending := false
	for line := range strings.Lines(text) {
		event, isEvent := strings.CutPrefix(line, "> ")
		if strings.HasPrefix(line, "    ") {
			continue
		}
		if pending && !isEvent {
			s.plan()
		}
		if isEvent && strings.TrimSpace(event) == "run" {
			s.out.WriteString(line)
			s.run()
			pending = false
			continue
		}
		if isEvent {
			s.world.happen(strings.Fields(event))
		}
		pending = isEvent
		s.out.WriteString(line)
	}
	if pending {
		s.plan()
	}
	return s.out.String()
}

// story tells what happens in a small world.
type story struct {
	world *smallWorld
	out   bytes.Buffer
}

// run lets the agents follow and time go on until nothing happens any more.
func (s *story) run() {
	for {
		s.world.happen([]string{"agents", "synced"})
		said := s.out.Len()
		fmt.Fprintf(&s.out, "    --- %s\n", s.world.now.Format(time.TimeOnly))
		next, changed := s.plan()
		switch {
		case next.IsZero() && !changed:
			s.out.Truncate(said)
			return
		case !changed:
			s.out.Truncate(said)
			s.world.now = next
		case !next.IsZero() && !s.world.busy():
			s.world.now = next
		}
	}
}

// plan asks the planner, writes down what it says, carries it out, and checks that it then has nothing to add, now and
// until it wants to be asked again.
func (s *story) plan() (next time.Time, changed bool) {
	w := s.world
	w.t.Helper()
	plan := planner.Make(w.world())
	w.killAtEveryStep(plan)
	before := s.out.Len()
	s.carryOut(plan)
	changed = s.out.Len() > before
	later := planner.Make(w.world())
	w.same("a plan that was carried out is followed by another one", plan, later)
	quiet := 24 * time.Hour
	if next = later.Next; !next.IsZero() {
		quiet = next.Sub(w.now) - time.Second
		fmt.Fprintf(&s.out, "    looks again at %s\n", next.UTC().Format(time.TimeOnly))
	}
	if !changed {
		fmt.Fprintln(&s.out, "    nothing changes")
	}
	now := w.world()
	now.Now = metav1.NewTime(w.now.Add(max(0, quiet)))
	w.same("the plan changes before the planner wants to be asked again", later, planner.Make(now))
	return next, changed
}

func (s *story) carryOut(plan planner.Plan) {
	w, out := s.world, &s.out
	for _, step := range w.steps(plan) {
		if said := step(); said != "" {
			fmt.Fprintf(out, "    %s\n", said)
		}
	}
	for _, name := range slices.Sorted(w.told()) {
		s.describe(w.configs[name])
	}
}

func (s *story) describe(config v1alpha1.ServiceProxyConfig) {
	n, out := config.Status.Nodes, &s.out
	fmt.Fprintf(out, "    %s: matched %d, overridden %d, conflicted %d, assigned %d, updated %d, ready %d, "+
		"unavailable %d, failed %d; kstatus %s\n", config.Name, *n.Matched, *n.Overridden, *n.Conflicted, *n.Assigned,
		*n.Updated, *n.Ready, *n.Unavailable, *n.Failed, s.kstatus(config))
	if current := config.Status.CurrentRevision; current != config.Status.UpdateRevision && current != "" {
		fmt.Fprintf(out, "        from %s to %s\n", current, config.Status.UpdateRevision)
	}
	said := ""
	for _, c := range config.Status.Conditions {
		normal := c.Type == v1alpha1.ConditionAccepted && c.Status == metav1.ConditionTrue ||
			c.Type == v1alpha1.ConditionConflicted && c.Status == metav1.ConditionFalse
		if normal {
			continue
		}
		fmt.Fprintf(out, "        %s=%s %s", c.Type, c.Status, c.Reason)
		if c.Message != said {
			fmt.Fprintf(out, ": %s", c.Message)
			said = c.Message
		}
		fmt.Fprintf(out, " (since %s)\n", c.LastTransitionTime.UTC().Format(time.TimeOnly))
	}
	for _, node := range config.Status.FailedNodes {
		fmt.Fprintf(out, "        failed node %s: %s: %s\n", node.Name, node.Reason, node.Message)
	}
}

// kstatus returns what Flux makes of the config.
func (s *story) kstatus(config v1alpha1.ServiceProxyConfig) status.Status {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&config)
	if err != nil {
		s.world.t.Fatal(err)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: content})
	if err != nil {
		s.world.t.Fatal(err)
	}
	return result.Status
}
