package planner_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

func TestRevision(t *testing.T) {
	plain := v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}
	tests := map[string]struct {
		config   string
		settings v1alpha1.ProxySettings
		want     string
	}{
		// These names are in clusters. If one changes, every node of every cluster is updated.
		"mode only": {"default", plain, "default-fe352139b3"},
		"a number": {"default", v1alpha1.ProxySettings{
			Mode: v1alpha1.ModeIPTables, Sync: v1alpha1.Sync{FullIntervalSeconds: new(int32(60))},
		}, "default-a1fb110ca3"},
		"a zero that was set": {"default", v1alpha1.ProxySettings{
			Mode: v1alpha1.ModeIPTables, Sync: v1alpha1.Sync{MinIntervalMilliseconds: new(int32(0))},
		}, "default-944d5eee0e"},
		"the longest name": {strings.Repeat("n", 63), plain, strings.Repeat("n", 63) + "-fe352139b3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := planner.RevisionName(test.config, test.settings)
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if len(got) > 80 {
				t.Errorf("%s has %d characters, and the API allows 80", got, len(got))
			}
		})
	}
}

// TestNamesOutliveReleases is about settings that another release has named in another way.
func TestNamesOutliveReleases(t *testing.T) {
	c, other := config("default", 0), v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPVS}
	tests := map[string]struct {
		known []planner.Revision
		want  string
	}{
		"nothing is known": {nil, "default-fe352139b3"},
		"the settings are": {[]planner.Revision{
			{Name: "default-older", Config: "default", Number: 1, Settings: c.Spec.ProxySettings},
			{Name: "default-other", Config: "default", Number: 2, Settings: other},
		}, "default-older"},
		"under both names": {[]planner.Revision{
			{Name: "default-older", Config: "default", Number: 1, Settings: c.Spec.ProxySettings},
			{Name: "default-fe352139b3", Config: "default", Number: 2, Settings: c.Spec.ProxySettings},
		}, "default-fe352139b3"},
		"to another config": {[]planner.Revision{
			{Name: "edge-older", Config: "edge", Number: 1, Settings: c.Spec.ProxySettings},
		}, "default-fe352139b3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			object := assigned("a", "default", test.want)
			plan := planner.Make(planner.World{
				Configs:   []v1alpha1.ServiceProxyConfig{c},
				Nodes:     []planner.Node{{Name: "a", Ready: true}},
				Objects:   []v1alpha1.ServiceProxyNode{object},
				Revisions: test.known,
			})
			if got := plan.Statuses["default"].UpdateRevision; got != test.want {
				t.Errorf("the settings are named %s, want %s", got, test.want)
			}
			if got := plan.Assignments[0].Spec.Revision; got != test.want {
				t.Errorf("the node gets %s, want %s", got, test.want)
			}
		})
	}
}

// TestReports is about what a node's report counts for: assignment and report are of the same generation or not.
func TestReports(t *testing.T) {
	const revision = "default-fe352139b3"
	type counts struct{ Updated, Ready, Failed, Unavailable int32 }
	tests := map[string]struct {
		spec     string // revision of the object
		observed int64  // the object is of generation 2
		applied  string
		accepted metav1.Condition
		ready    metav1.Condition
		notReady bool // the Node
		want     counts
		reason   string
	}{
		"in sync": {
			spec: revision, observed: 2, applied: revision, ready: condition("Ready", "True", 2),
			want: counts{Updated: 1, Ready: 1}, reason: v1alpha1.ReasonAllNodesReady,
		},
		"applied, not in sync": {
			spec: revision, observed: 2, applied: revision, ready: condition("Ready", "False", 2),
			want: counts{Updated: 1}, reason: v1alpha1.ReasonRollingOut,
		},
		"applied, Ready of an earlier generation": {
			spec: revision, observed: 2, applied: revision, ready: condition("Ready", "True", 1),
			want: counts{Updated: 1}, reason: v1alpha1.ReasonRollingOut,
		},
		"not observed": {
			spec: revision, observed: 1, applied: revision, ready: condition("Ready", "True", 1),
			reason: v1alpha1.ReasonRollingOut,
		},
		"another revision applied": {
			spec: revision, observed: 2, applied: "default-0", ready: condition("Ready", "True", 2),
			reason: v1alpha1.ReasonRollingOut,
		},
		"another revision assigned": {
			spec: "default-0", observed: 2, applied: "default-0", ready: condition("Ready", "True", 2),
			reason: v1alpha1.ReasonRollingOut,
		},
		"not accepted": {
			spec: revision, observed: 2, applied: "default-0", accepted: condition("Accepted", "False", 2),
			want: counts{Failed: 1}, reason: v1alpha1.ReasonNodesFailed,
		},
		"another revision not accepted": {
			spec: "default-0", observed: 2, applied: "default-0", accepted: condition("Accepted", "False", 2),
			reason: v1alpha1.ReasonRollingOut,
		},
		"not accepted in an earlier generation": {
			spec: revision, observed: 1, accepted: condition("Accepted", "False", 1),
			reason: v1alpha1.ReasonRollingOut,
		},
		"silent, and its Node is not Ready": {
			spec: revision, notReady: true,
			want: counts{Unavailable: 1}, reason: v1alpha1.ReasonAllNodesReady,
		},
		"in sync, and its Node is not Ready": {
			spec: revision, observed: 2, applied: revision, ready: condition("Ready", "True", 2), notReady: true,
			want: counts{Updated: 1, Ready: 1, Unavailable: 1}, reason: v1alpha1.ReasonAllNodesReady,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			object := assigned("a", "default", test.spec)
			object.Generation = 2
			object.Status = v1alpha1.ServiceProxyNodeStatus{
				ObservedGeneration: test.observed, AppliedRevision: test.applied,
				Conditions: []metav1.Condition{test.accepted, test.ready},
			}
			status := planner.Make(planner.World{
				Configs: []v1alpha1.ServiceProxyConfig{config("default", 0)},
				Nodes:   []planner.Node{{Name: "a", Ready: !test.notReady}},
				Objects: []v1alpha1.ServiceProxyNode{object},
			}).Statuses["default"]
			n := status.Nodes
			if diff := cmp.Diff(test.want, counts{*n.Updated, *n.Ready, *n.Failed, *n.Unavailable}); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady).Reason; got != test.reason {
				t.Errorf("Ready is %s, want %s", got, test.reason)
			}
		})
	}
}

func TestManyFailuresMakeAShortStatus(t *testing.T) {
	world := planner.World{Configs: []v1alpha1.ServiceProxyConfig{config("default", 0)}}
	for i := range 50 {
		name := fmt.Sprintf("node-%02d", i)
		object := assigned(name, "default", "default-fe352139b3")
		object.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse,
			Reason: strings.Repeat("R", 100), Message: strings.Repeat("ü", 600) + fmt.Sprint(i%7),
		}}
		world.Nodes = append(world.Nodes, planner.Node{Name: name, Ready: true})
		world.Objects = append(world.Objects, object)
	}
	status := planner.Make(world).Statuses["default"]
	if got := *status.Nodes.Failed; got != 50 {
		t.Errorf("%d nodes failed, want 50", got)
	}
	if got := len(status.FailedNodes); got != 10 || status.FailedNodes[9].Name != "node-09" {
		t.Errorf("%d failed nodes are named, want the first 10", got)
	}
	texts := map[string]int{} // and how long they may be
	for _, node := range status.FailedNodes {
		texts[node.Reason], texts[node.Message] = 63, 512
	}
	for _, condition := range status.Conditions {
		texts[condition.Message] = 512
	}
	for text, limit := range texts {
		if got := utf8.RuneCountInString(text); got > limit {
			t.Errorf("a text has %d characters, want at most %d: %s", got, limit, text)
		}
	}
}

func TestDistinctCausesAreCounted(t *testing.T) {
	world := planner.World{Configs: []v1alpha1.ServiceProxyConfig{config("default", 0)}}
	for i, message := range []string{"a", "b", "b", "c", "c", "c", "d", "d", "d", "d"} {
		name := fmt.Sprintf("n%d", i)
		object := assigned(name, "default", "default-fe352139b3")
		object.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse, Reason: "ApplyFailed", Message: message,
		}}
		world.Nodes = append(world.Nodes, planner.Node{Name: name, Ready: true})
		world.Objects = append(world.Objects, object)
	}
	conditions := planner.Make(world).Statuses["default"].Conditions
	want := "10 of 10 nodes failed: ApplyFailed on n6, n7, n8 and 1 more: d; ApplyFailed on n3, n4, n5: c; " +
		"ApplyFailed on n1, n2: b and 1 more"
	if diff := cmp.Diff(want, meta.FindStatusCondition(conditions, v1alpha1.ConditionStalled).Message); diff != "" {
		t.Errorf("the message (-want +got):\n%s", diff)
	}
}

// TestAnyWorld checks in worlds made by chance what has to be true in all of them.
func TestAnyWorld(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		world := anyWorld(random)
		plan := planner.Make(world)
		for name, status := range plan.Statuses {
			stalled := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled)
			reconciling := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReconciling)
			ready := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady)
			if (stalled && reconciling) || ready == (stalled || reconciling) {
				t.Errorf("seed %d: %s is Ready %t, Stalled %t and Reconciling %t", seed, name, ready, stalled, reconciling)
			}
			for _, condition := range status.Conditions {
				if condition.ObservedGeneration != status.ObservedGeneration || condition.Reason == "" {
					t.Errorf("seed %d: %s has an incomplete condition: %v", seed, name, condition)
				}
			}
		}
		for _, assignment := range plan.Assignments {
			if outranked(world, assignment) {
				t.Errorf("seed %d: %s has %s although a higher priority selects it",
					seed, assignment.Node, assignment.Config)
			}
		}
		random.Shuffle(len(world.Nodes), func(i, j int) {
			world.Nodes[i], world.Nodes[j] = world.Nodes[j], world.Nodes[i]
		})
		random.Shuffle(len(world.Configs), func(i, j int) {
			world.Configs[i], world.Configs[j] = world.Configs[j], world.Configs[i]
		})
		if diff := cmp.Diff(plan, planner.Make(world)); diff != "" {
			t.Errorf("seed %d: the plan depends on the order of its input:\n%s", seed, diff)
		}
	}
}

func outranked(world planner.World, assignment planner.Assignment) bool {
	priorities := map[string]int32{}
	var node planner.Node
	for _, n := range world.Nodes {
		if n.Name == assignment.Node {
			node = n
		}
	}
	highest := int32(-1)
	for _, c := range world.Configs {
		priorities[c.Name] = *c.Spec.Priority
		selector, err := planner.Selector(c.Spec.NodeSelector)
		if err == nil && selector.Matches(node.Labels) {
			highest = max(highest, *c.Spec.Priority)
		}
	}
	return highest >= 0 && priorities[assignment.Config] != highest
}

func anyWorld(random *rand.Rand) planner.World {
	world := planner.World{Now: metav1.NewTime(time.Unix(1_700_000_000, 0))}
	for i := range 1 + random.IntN(5) {
		c := config(fmt.Sprintf("config-%d", i), int32(random.IntN(3)))
		switch random.IntN(4) {
		case 0:
			c.Spec.NodeSelector = selector("!")
		case 1, 2:
			c.Spec.NodeSelector = selector(fmt.Sprintf("zone=%d", random.IntN(3)))
		}
		world.Configs = append(world.Configs, c)
	}
	for i := range random.IntN(12) {
		name := fmt.Sprintf("node-%d", i)
		world.Nodes = append(world.Nodes, planner.Node{
			Name: name, UID: types.UID(name), Ready: random.IntN(4) > 0,
			Labels: labels.Set{"zone": fmt.Sprint(random.IntN(3))},
		})
		if random.IntN(3) == 0 {
			continue
		}
		holder := world.Configs[random.IntN(len(world.Configs))]
		revision := planner.RevisionName(holder.Name, holder.Spec.ProxySettings)
		object := assigned(name, holder.Name, revision)
		object.Status.AppliedRevision = revision
		object.Status.Conditions = []metav1.Condition{
			condition("Ready", []string{"True", "False"}[random.IntN(2)], 0),
			condition("Programmed", []string{"True", "Unknown", "False"}[random.IntN(3)], 0),
		}
		world.Objects = append(world.Objects, object)
	}
	return world
}

func BenchmarkMake(b *testing.B) {
	world := planner.World{}
	for i := range 10 {
		c := config(fmt.Sprintf("config-%d", i), int32(i))
		c.Spec.NodeSelector = selector(fmt.Sprintf("pool=%d", i))
		world.Configs = append(world.Configs, c)
	}
	for i := range 5000 {
		name, holder := fmt.Sprintf("node-%04d", i), world.Configs[i%10]
		world.Nodes = append(world.Nodes, planner.Node{
			Name: name, Ready: true, Labels: labels.Set{"pool": fmt.Sprint(i % 10)},
		})
		object := assigned(name, holder.Name, planner.RevisionName(holder.Name, holder.Spec.ProxySettings))
		object.Status.AppliedRevision = object.Spec.Revision
		object.Status.Conditions = []metav1.Condition{condition("Ready", "True", 0)}
		world.Objects = append(world.Objects, object)
	}
	for b.Loop() {
		planner.Make(world)
	}
}

func config(name string, priority int32) v1alpha1.ServiceProxyConfig {
	return v1alpha1.ServiceProxyConfig{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1},
		Spec: v1alpha1.ServiceProxyConfigSpec{
			NodeSelector:  &v1alpha1.NodeSelector{},
			Priority:      &priority,
			ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
		},
	}
}

func assigned(node, config, revision string) v1alpha1.ServiceProxyNode {
	return v1alpha1.ServiceProxyNode{
		ObjectMeta: metav1.ObjectMeta{Name: node},
		Spec: v1alpha1.ServiceProxyNodeSpec{
			ConfigRef: v1alpha1.ConfigReference{Name: config, Generation: new(int64(1))}, Revision: revision,
		},
	}
}

func condition(kind, status string, generation int64) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: metav1.ConditionStatus(status), Reason: "Reason", ObservedGeneration: generation,
	}
}
