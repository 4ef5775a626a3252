package planner_test

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// smallWorld is a small cluster: it keeps what an API server keeps and does what agents report.
type smallWorld struct {
	t         *testing.T
	now       time.Time
	uids      int
	updating  string
	nodes     map[string]planner.Node
	configs   map[string]v1alpha1.ServiceProxyConfig
	objects   map[string]v1alpha1.ServiceProxyNode
	revisions map[string]planner.Revision
	news      map[string]bool // the configs whose status was written since somebody asked
}

func newSmallWorld(t *testing.T) *smallWorld {
	return &smallWorld{
		t:         t,
		now:       time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC),
		nodes:     map[string]planner.Node{},
		configs:   map[string]v1alpha1.ServiceProxyConfig{},
		objects:   map[string]v1alpha1.ServiceProxyNode{},
		revisions: map[string]planner.Revision{},
		news:      map[string]bool{},
	}
}

// clone returns a world in which other things may happen.
func (w *smallWorld) clone() *smallWorld {
	c := *w
	c.nodes, c.configs, c.revisions = maps.Clone(w.nodes), maps.Clone(w.configs), maps.Clone(w.revisions)
	c.objects, c.news = map[string]v1alpha1.ServiceProxyNode{}, map[string]bool{}
	for name, object := range w.objects {
		c.objects[name] = *object.DeepCopy()
	}
	return &c
}

func (w *smallWorld) world() planner.World {
	return planner.World{
		Configs:   slices.Collect(maps.Values(w.configs)), // in any order: the planner must not care
		Nodes:     slices.Collect(maps.Values(w.nodes)),
		Objects:   slices.Collect(maps.Values(w.objects)),
		Revisions: slices.Collect(maps.Values(w.revisions)),
		Updating:  w.updating,
		Now:       metav1.NewTime(w.now),
	}
}

func (w *smallWorld) happen(event []string) {
	w.t.Helper()
	switch verb, args := event[0], event[1:]; {
	case verb == "node":
		w.node(args[0], args[1:])
	case verb == "rebuild":
		node := w.nodes[args[0]]
		node.UID = w.uid()
		w.nodes[args[0]] = node
	case verb == "delete" && args[0] == "node":
		delete(w.nodes, args[1])
		delete(w.objects, args[1])
	case verb == "config":
		w.config(args[0], args[1:])
	case verb == "delete" && args[0] == "config":
		delete(w.configs, args[1])
	case verb == "retry":
		config := w.configs[args[0]]
		config.Annotations = map[string]string{v1alpha1.AnnotationRetry: args[1]}
		w.configs[args[0]] = config
	case verb == "agents" && args[0] == "updating":
		w.updating = strings.Join(args[1:], " ")
	case verb == "agents" && args[0] == "updated":
		w.updating = ""
	case verb == "agents":
		for _, name := range slices.Sorted(maps.Keys(w.objects)) {
			w.agent(name, args)
		}
	case verb == "agent":
		w.agent(args[0], args[1:])
	case verb == "wait":
		duration, err := time.ParseDuration(args[0])
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(duration)
	default:
		w.t.Fatalf("there is no event %q", strings.Join(event, " "))
	}
}

func (w *smallWorld) uid() types.UID {
	w.uids++
	return types.UID("uid-" + strconv.Itoa(w.uids))
}

func (w *smallWorld) node(name string, words []string) {
	before, exists := w.nodes[name]
	node := planner.Node{Name: name, UID: before.UID, Created: before.Created, Labels: labels.Set{}, Ready: true}
	if !exists {
		node.UID, node.Created = w.uid(), metav1.NewTime(w.now)
	}
	for _, word := range words {
		if word == "NotReady" {
			node.Ready = false
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		node.Labels[key] = value
		if key == "zone" {
			node.Labels[corev1.LabelTopologyZone] = value
		}
	}
	node.Since = before.Since
	if !exists || node.Ready != before.Ready {
		node.Since = metav1.NewTime(w.now)
	}
	w.nodes[name] = node
}

func (w *smallWorld) config(name string, words []string) {
	config, exists := w.configs[name]
	if !exists {
		config.Name = name
		config.Status.ObservedGeneration = -1
	}
	spec := v1alpha1.ServiceProxyConfigSpec{
		NodeSelector:  &v1alpha1.NodeSelector{},
		ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
	}
	for _, word := range words {
		w.setWord(&spec, word)
	}
	if !apiequality.Semantic.DeepEqual(config.Spec, spec) {
		config.Spec = spec
		config.Generation++
	}
	w.configs[name] = config
}

// setWord sets a field of a config. "at-once" is a rollout without stages.
func (w *smallWorld) setWord(spec *v1alpha1.ServiceProxyConfigSpec, word string) {
	w.t.Helper()
	key, value, _ := strings.Cut(word, "=")
	rollout := &spec.Rollout
	switch key {
	case "priority":
		spec.Priority = new(w.number(value))
	case "resync":
		spec.Sync.FullIntervalSeconds = new(w.number(value))
	case "selector":
		spec.NodeSelector = selector(value)
	case "at-once":
		rollout.MaxUnavailable = new(intstr.FromString("100%"))
		rollout.MinReadySeconds, rollout.NodeChangeDelaySeconds = new(int32), new(int32)
	case "paused":
		rollout.State = v1alpha1.RolloutPaused
	case "max":
		rollout.MaxUnavailable = new(intstr.Parse(value))
	case "canary":
		rollout.Canary.Nodes = w.number(value)
	case "canary-selector":
		rollout.Canary.NodeSelector = selector(value)
	case "bake":
		rollout.Canary.BakeSeconds = new(w.number(value))
	case "min-ready":
		rollout.MinReadySeconds = new(w.number(value))
	case "timeout":
		rollout.NodeTimeoutSeconds = new(w.number(value))
	case "delay":
		rollout.NodeChangeDelaySeconds = new(w.number(value))
	case "threshold":
		rollout.FailureThreshold = new(intstr.Parse(value))
	case "on-failure":
		rollout.OnFailure = v1alpha1.RolloutOnFailure(value)
	case "on-release":
		spec.OnRelease = v1alpha1.ReleasePolicy(value)
	case "history":
		spec.RevisionHistoryLimit = w.number(value)
	default:
		w.t.Fatalf("a config has no %q", word)
	}
}

func selector(text string) *v1alpha1.NodeSelector {
	if text == "!" {
		return &v1alpha1.NodeSelector{MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "role", Operator: "Is"}}}
	}
	key, value, _ := strings.Cut(text, "=")
	return &v1alpha1.NodeSelector{MatchLabels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}
}

func (w *smallWorld) number(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		w.t.Fatal(err)
	}
	return int32(n)
}

func (w *smallWorld) agent(name string, report []string) {
	object, exists := w.objects[name]
	if !exists {
		w.t.Fatalf("node %s has no assignment", name)
	}
	now := &object.Status
	set := func(kind string, status metav1.ConditionStatus, reason, message string) {
		meta.SetStatusCondition(&now.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason,
			Message: message, ObservedGeneration: object.Generation, LastTransitionTime: metav1.NewTime(w.now)})
	}
	switch verb, rest := report[0], report[1:]; verb {
	case "down", "up":
		node := w.nodes[name]
		node.AgentDown = verb == "down"
		w.nodes[name] = node
		return
	case "synced":
		now.AppliedRevision = object.Spec.Revision
		set(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonSupported, "")
		set(v1alpha1.ConditionRolledBack, metav1.ConditionFalse, v1alpha1.ReasonNotRolledBack, "")
		set(v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonSynced, "")
		set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSynced, "")
	case "applied":
		now.AppliedRevision = object.Spec.Revision
		set(v1alpha1.ConditionProgrammed, metav1.ConditionUnknown, v1alpha1.ReasonPending, "")
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPending, "")
	case "failed":
		set(rest[0], metav1.ConditionFalse, rest[1], strings.Join(rest[2:], " "))
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, rest[1], strings.Join(rest[2:], " "))
	case "rolledback":
		message := strings.Join(rest[1:], " ")
		now.FailedRevision = object.Spec.Revision
		set(v1alpha1.ConditionRolledBack, metav1.ConditionTrue, rest[0], message)
		set(v1alpha1.ConditionProgrammed, metav1.ConditionFalse, rest[0], message)
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, rest[0], message)
	default:
		w.t.Fatalf("an agent does not report %q", verb)
	}
	now.ObservedGeneration = object.Generation
	w.objects[name] = object
}

// busy tells whether an agent has not reported on what it was given last.
func (w *smallWorld) busy() bool {
	for _, object := range w.objects {
		if object.Status.ObservedGeneration != object.Generation {
			return true
		}
	}
	return false
}

// steps returns the writes that a plan comes to, in the order in which the operator makes them. Each does its write and
// says what it was, or nothing if everything was as planned.
func (w *smallWorld) steps(plan planner.Plan) []func() string {
	var steps []func() string
	for _, r := range plan.Revisions {
		steps = append(steps, func() string { return w.record(r) })
	}
	for _, name := range slices.Sorted(maps.Keys(plan.Statuses)) {
		steps = append(steps, func() string {
			config := w.configs[name]
			if !apiequality.Semantic.DeepEqual(config.Status, plan.Statuses[name]) {
				config.Status = plan.Statuses[name]
				w.configs[name], w.news[name] = config, true
			}
			return ""
		})
	}
	for _, assignment := range plan.Assignments {
		steps = append(steps, func() string { return w.assign(assignment) })
	}
	for _, name := range plan.Obsolete {
		steps = append(steps, func() string {
			delete(w.revisions, name)
			return name + " is forgotten"
		})
	}
	return steps
}

func (w *smallWorld) record(r planner.Revision) string {
	before, exists := w.revisions[r.Name]
	w.revisions[r.Name] = r
	switch {
	case !exists:
		return fmt.Sprintf("%s is recorded as number %d", r.Name, r.Number)
	case before.Number != r.Number:
		return fmt.Sprintf("%s is number %d now", r.Name, r.Number)
	default:
		return ""
	}
}

func (w *smallWorld) assign(assignment planner.Assignment) string {
	object, exists := w.objects[assignment.Node]
	said := ""
	if assignment.Replaces != "" && object.UID == assignment.Replaces {
		said = assignment.Node + ": its object goes, and another comes; "
		object, exists = v1alpha1.ServiceProxyNode{}, false
	}
	changed := !exists || !apiequality.Semantic.DeepEqual(object.Spec, assignment.Spec)
	switch before := object.Annotations[planner.AnnotationWanted]; {
	case changed && assignment.Spec.Action == v1alpha1.ActionRelease:
		said += assignment.Node + ": gives everything back"
	case changed:
		said += fmt.Sprintf("%s: gets %s of generation %d",
			assignment.Node, assignment.Spec.Revision, *assignment.Spec.ConfigRef.Generation)
	case before != assignment.Annotations[planner.AnnotationWanted]:
		said = fmt.Sprintf("%s: is wanted by %q", assignment.Node, assignment.Annotations[planner.AnnotationWanted])
	case maps.Equal(object.Annotations, assignment.Annotations):
		return ""
	}
	if !exists {
		object.Name, object.UID = assignment.Node, w.uid()
		object.CreationTimestamp = metav1.NewTime(w.now)
		object.Status.ObservedGeneration = -1
		object.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "Node", Name: assignment.Node, UID: assignment.UID}}
	}
	if changed {
		object.Generation++
	}
	object.Spec, object.Annotations = assignment.Spec, assignment.Annotations
	w.objects[assignment.Node] = object
	return said
}

// told returns the configs whose status was written since it was asked last.
func (w *smallWorld) told() iter.Seq[string] {
	told := maps.Keys(w.news)
	w.news = map[string]bool{}
	return told
}

// killAtEveryStep kills the operator after each of the writes of a plan. The next one has to end where this one would.
func (w *smallWorld) killAtEveryStep(plan planner.Plan) {
	w.t.Helper()
	whole := w.clone()
	for _, step := range whole.steps(plan) {
		step()
	}
	for killed := range w.steps(plan) {
		part := w.clone()
		for _, step := range part.steps(plan)[:killed] {
			step()
		}
		for _, step := range part.steps(planner.Make(part.world())) {
			step()
		}
		if diff := gocmp.Diff(whole.end(), part.end()); diff != "" {
			w.t.Fatalf("the operator killed after %d writes leads to something else (-not killed +killed):\n%s", killed, diff)
		}
	}
}

// end is everything that the operator has written.
func (w *smallWorld) end() map[string]any {
	end := map[string]any{"revisions": w.revisions}
	for name, config := range w.configs {
		end["config "+name] = config.Status
	}
	for name, object := range w.objects {
		end["node "+name] = []any{object.Spec, object.Annotations}
	}
	return end
}

// same compares plans, leaving out which objects are replaced, which are gone once a plan has been carried out, and
// when it has to be looked at again.
func (w *smallWorld) same(what string, first, second planner.Plan) {
	w.t.Helper()
	reduce := func(plan planner.Plan) planner.Plan {
		plan.Assignments = slices.Clone(plan.Assignments)
		for i := range plan.Assignments {
			plan.Assignments[i].Replaces = ""
		}
		plan.Obsolete, plan.Next = nil, time.Time{}
		slices.SortFunc(plan.Revisions, func(a, b planner.Revision) int { return cmp.Compare(a.Name, b.Name) })
		return plan
	}
	if diff := gocmp.Diff(reduce(first), reduce(second)); diff != "" {
		w.t.Errorf("%s: %s (-first +second):\n%s", w.now.Format(time.TimeOnly), what, diff)
	}
}
