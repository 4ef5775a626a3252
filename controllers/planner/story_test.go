package planner_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// The stories in testdata tell, step by step, what happens in a cluster and what the planner makes of it. Lines that
// begin with ">" are events, and the indented lines after them are what the planner says: who is assigned what, and
// every config whose status changed, with what Flux and others read from it (kstatus). Everything else is prose.
//
//	> node NAME [LABEL=VALUE ...] [NotReady]      a Node is made or changed
//	> rebuild NAME                                a Node is deleted and another takes its name
//	> delete node NAME                            a Node is deleted, and its ServiceProxyNode with it
//	> config NAME [priority=N] [selector=LABEL=VALUE|!] [resync=SECONDS]    a config is applied ("!" cannot be parsed)
//	> delete config NAME
//	> agent NAME synced|applied|failed CONDITION REASON MESSAGE     an agent reports on its assignment
//	> agents synced                               all agents do
//	> wait DURATION
//
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
	s := newStory(t)
	var out bytes.Buffer
	pending := false
	for line := range strings.Lines(text) {
		event, isEvent := strings.CutPrefix(line, "> ")
		if strings.HasPrefix(line, "    ") {
			continue
		}
		if pending && !isEvent {
			s.plan(&out)
		}
		if isEvent {
			s.happen(strings.Fields(event))
		}
		pending = isEvent
		out.WriteString(line)
	}
	if pending {
		s.plan(&out)
	}
	return out.String()
}

// story is a small cluster: it keeps what an API server keeps and does what agents report.
type story struct {
	t       *testing.T
	now     time.Time
	uids    int
	nodes   map[string]planner.Node
	configs map[string]v1alpha1.ServiceProxyConfig
	objects map[string]v1alpha1.ServiceProxyNode
}

func newStory(t *testing.T) *story {
	return &story{
		t:       t,
		now:     time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC),
		nodes:   map[string]planner.Node{},
		configs: map[string]v1alpha1.ServiceProxyConfig{},
		objects: map[string]v1alpha1.ServiceProxyNode{},
	}
}

func (s *story) happen(event []string) {
	s.t.Helper()
	switch verb, args := event[0], event[1:]; {
	case verb == "node":
		s.node(args[0], args[1:])
	case verb == "rebuild":
		node := s.nodes[args[0]]
		node.UID = s.uid()
		s.nodes[args[0]] = node
	case verb == "delete" && args[0] == "node":
		delete(s.nodes, args[1])
		delete(s.objects, args[1])
	case verb == "config":
		s.config(args[0], args[1:])
	case verb == "delete" && args[0] == "config":
		delete(s.configs, args[1])
	case verb == "agents":
		for name := range s.objects {
			s.agent(name, args)
		}
	case verb == "agent":
		s.agent(args[0], args[1:])
	case verb == "wait":
		duration, err := time.ParseDuration(args[0])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(duration)
	default:
		s.t.Fatalf("there is no event %q", strings.Join(event, " "))
	}
}

func (s *story) uid() types.UID {
	s.uids++
	return types.UID("uid-" + strconv.Itoa(s.uids))
}

func (s *story) node(name string, words []string) {
	node := planner.Node{Name: name, UID: s.nodes[name].UID, Labels: labels.Set{}, Ready: true}
	if node.UID == "" {
		node.UID = s.uid()
	}
	for _, word := range words {
		if word == "NotReady" {
			node.Ready = false
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		node.Labels[key] = value
	}
	s.nodes[name] = node
}

func (s *story) config(name string, words []string) {
	config, exists := s.configs[name]
	if !exists {
		config.Name = name
		config.Status.ObservedGeneration = -1
	}
	spec := v1alpha1.ServiceProxyConfigSpec{
		NodeSelector:  &v1alpha1.NodeSelector{},
		ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
	}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "priority":
			spec.Priority = new(s.number(value))
		case "resync":
			spec.Sync.FullIntervalSeconds = new(s.number(value))
		case "selector":
			spec.NodeSelector = selector(value)
		default:
			s.t.Fatalf("a config has no %q", word)
		}
	}
	if !apiequality.Semantic.DeepEqual(config.Spec, spec) {
		config.Spec = spec
		config.Generation++
	}
	s.configs[name] = config
}

func selector(text string) *v1alpha1.NodeSelector {
	if text == "!" {
		return &v1alpha1.NodeSelector{MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "role", Operator: "Is"}}}
	}
	key, value, _ := strings.Cut(text, "=")
	return &v1alpha1.NodeSelector{MatchLabels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}
}

func (s *story) number(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		s.t.Fatal(err)
	}
	return int32(n)
}

func (s *story) agent(name string, report []string) {
	object, exists := s.objects[name]
	if !exists {
		s.t.Fatalf("node %s has no assignment", name)
	}
	now := &object.Status
	now.ObservedGeneration = object.Generation
	set := func(kind string, status metav1.ConditionStatus, reason, message string) {
		meta.SetStatusCondition(&now.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason,
			Message: message, ObservedGeneration: object.Generation, LastTransitionTime: metav1.NewTime(s.now)})
	}
	switch report[0] {
	case "synced":
		now.AppliedRevision = object.Spec.Revision
		set(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonSupported, "")
		set(v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonSynced, "")
		set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSynced, "")
	case "applied":
		now.AppliedRevision = object.Spec.Revision
		set(v1alpha1.ConditionProgrammed, metav1.ConditionUnknown, v1alpha1.ReasonPending, "")
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPending, "")
	case "failed":
		set(report[1], metav1.ConditionFalse, report[2], strings.Join(report[3:], " "))
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, report[2], strings.Join(report[3:], " "))
	default:
		s.t.Fatalf("an agent does not report %q", report[0])
	}
	s.objects[name] = object
}

// plan asks the planner, writes down what it says, carries it out, and checks that it then has nothing to add.
func (s *story) plan(out *bytes.Buffer) {
	s.t.Helper()
	plan := planner.Make(s.world())
	s.carryOut(plan, out)
	if again := planner.Make(s.world()); !apiequality.Semantic.DeepEqual(without(plan), without(again)) {
		s.t.Errorf("a plan that was carried out is followed by another one (-first +second):\n%s",
			cmp.Diff(without(plan), without(again)))
	}
}

// without returns the plan without the objects that it replaces, which are gone once it has been carried out.
func without(plan planner.Plan) planner.Plan {
	plan.Assignments = slices.Clone(plan.Assignments)
	for i := range plan.Assignments {
		plan.Assignments[i].Replaces = ""
	}
	return plan
}

func (s *story) world() planner.World {
	return planner.World{
		Configs: slices.Collect(maps.Values(s.configs)), // in any order: the planner must not care
		Nodes:   slices.Collect(maps.Values(s.nodes)),
		Objects: slices.Collect(maps.Values(s.objects)),
		Now:     metav1.NewTime(s.now),
	}
}

func (s *story) carryOut(plan planner.Plan, out *bytes.Buffer) {
	for _, assignment := range plan.Assignments {
		object, exists := s.objects[assignment.Node]
		if assignment.Replaces != "" {
			fmt.Fprintf(out, "    %s: the object of the earlier Node goes\n", assignment.Node)
			object, exists = v1alpha1.ServiceProxyNode{}, false
		}
		if exists && apiequality.Semantic.DeepEqual(object.Spec, assignment.Spec) {
			continue
		}
		fmt.Fprintf(out, "    %s: gets %s of generation %d\n",
			assignment.Node, assignment.Spec.Revision, *assignment.Spec.ConfigRef.Generation)
		if !exists {
			object.Name, object.UID = assignment.Node, s.uid()
			object.Status.ObservedGeneration = -1
			object.OwnerReferences = []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Node", Name: assignment.Node, UID: assignment.UID}}
		}
		object.Spec = assignment.Spec
		object.Generation++
		s.objects[assignment.Node] = object
	}
	said := false
	for _, name := range slices.Sorted(maps.Keys(plan.Statuses)) {
		config := s.configs[name]
		if apiequality.Semantic.DeepEqual(config.Status, plan.Statuses[name]) {
			continue
		}
		config.Status = plan.Statuses[name]
		s.configs[name] = config
		s.describe(config, out)
		said = true
	}
	if !said {
		fmt.Fprintln(out, "    no config has anything new to report")
	}
}

func (s *story) describe(config v1alpha1.ServiceProxyConfig, out *bytes.Buffer) {
	n := config.Status.Nodes
	fmt.Fprintf(out, "    %s: matched %d, overridden %d, conflicted %d, assigned %d, updated %d, ready %d, "+
		"unavailable %d, failed %d; kstatus %s\n", config.Name, *n.Matched, *n.Overridden, *n.Conflicted, *n.Assigned,
		*n.Updated, *n.Ready, *n.Unavailable, *n.Failed, s.kstatus(config))
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
		s.t.Fatal(err)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: content})
	if err != nil {
		s.t.Fatal(err)
	}
	return result.Status
}
