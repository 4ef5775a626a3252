package planner_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// chance is a small world in which things happen by chance: the operator is killed after any of its writes, agents
// report when they like, and people change their mind.
type chance struct {
	*smallWorld
	random *rand.Rand
	// bad are the settings that nodes do not take.
	bad map[int]bool
}

const (
	roundsOfChance = 120
	nodesOfChance  = 20
	maxOfChance    = 3
)

func newChance(t *testing.T, seed uint64) *chance {
	c := &chance{newSmallWorld(t), rand.New(rand.NewPCG(seed, 7)), map[int]bool{100: true}}
	for i := range nodesOfChance {
		c.node(fmt.Sprintf("n%02d", i), []string{fmt.Sprintf("zone=%d", i%3)})
	}
	return c
}

// apply applies a config with settings of a number.
func (c *chance) apply(settings int, more ...string) {
	c.config("default", append(more, fmt.Sprintf("max=%d", maxOfChance), fmt.Sprintf("resync=%d", settings),
		"timeout=60", "min-ready=5"))
}

// operate makes one pass of the operator, which may be its last.
func (c *chance) operate() {
	steps := c.steps(planner.Make(c.world()))
	if c.random.IntN(2) == 0 && len(steps) > 0 {
		steps = steps[:c.random.IntN(len(steps))]
	}
	for _, step := range steps {
		step()
	}
}

// report has one agent that has not done so report.
func (c *chance) report() {
	for name, object := range c.objects {
		if object.Status.ObservedGeneration == object.Generation || c.random.IntN(3) > 0 {
			continue
		}
		if resync := object.Spec.Sync.FullIntervalSeconds; resync != nil && c.bad[int(*resync)] {
			c.agent(name, []string{"rolledback", "ProbeFailed", "no answer"})
		} else {
			c.agent(name, []string{"synced"})
		}
		return
	}
}

// inChange returns how many nodes have been given other settings than they had and are not in sync with them.
func (c *chance) inChange() int {
	n := 0
	for _, object := range c.objects {
		ready := meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionReady)
		_, changed := object.Annotations[planner.AnnotationAssigned]
		if changed && (!ready || object.Status.AppliedRevision != object.Spec.Revision) {
			n++
		}
	}
	return n
}

// settle has everything go well from now on, until nothing happens any more.
func (c *chance) settle() {
	c.t.Helper()
	for range 1000 {
		for name, object := range c.objects {
			if object.Status.ObservedGeneration != object.Generation {
				c.agent(name, []string{"synced"})
			}
		}
		plan := planner.Make(c.world())
		for _, step := range c.steps(plan) {
			step()
		}
		switch next := planner.Make(c.world()).Next; {
		case c.busy():
		case next.IsZero():
			return
		default:
			c.now = next
		}
	}
	c.t.Fatal("it never settles")
}

// expectEverywhere fails unless all nodes are in sync with the settings of their config.
func (c *chance) expectEverywhere(seed uint64) {
	c.t.Helper()
	config := c.configs["default"]
	if !meta.IsStatusConditionTrue(config.Status.Conditions, v1alpha1.ConditionReady) {
		c.t.Errorf("seed %d: not Ready in the end: %v", seed, config.Status.Conditions)
	}
	for name, object := range c.objects {
		if object.Spec.Revision != config.Status.UpdateRevision {
			c.t.Errorf("seed %d: %s has %s in the end and not %s", seed, name, object.Spec.Revision, config.Status.UpdateRevision)
		}
	}
}

// TestRolloutsByChance changes settings, good ones and bad ones, again and again. However it goes, no more nodes than
// maxUnavailable are in change at one time, and in the end all have what was applied last.
func TestRolloutsByChance(t *testing.T) {
	for seed := range uint64(25) {
		c := newChance(t, seed)
		c.apply(30)
		c.settle()
		more := [][]string{nil, {"canary=2", "bake=10"}, {"on-failure=Rollback"}, {"on-failure=Rollback", "canary=1"},
			{"threshold=2"}}[c.random.IntN(5)]
		for round := range roundsOfChance {
			switch c.random.IntN(10) {
			case 0:
				c.apply([]int{30, 60, 90, 100}[c.random.IntN(4)], more...)
			case 1:
				c.apply([]int{60, 100}[c.random.IntN(2)], append(more, "paused")...)
			case 2:
				c.happen([]string{"retry", "default", fmt.Sprint(round)})
			case 3, 4, 5:
				c.now = c.now.Add(time.Duration(c.random.IntN(8)) * time.Second)
				c.operate()
			default:
				c.report()
				c.operate()
			}
			if n := c.inChange(); n > maxOfChance {
				t.Fatalf("seed %d, round %d: %d nodes are in change, and no more than %d may", seed, round, n, maxOfChance)
			}
		}
		c.apply(120, more...)
		c.settle()
		c.expectEverywhere(seed)
	}
}

// TestAnythingByChance adds everything else that can happen to nodes. No number holds then, but the end does.
func TestAnythingByChance(t *testing.T) {
	for seed := range uint64(25) {
		c := newChance(t, seed)
		more := []string{"canary=1", "bake=5", "delay=5"}
		c.apply(30, more...)
		for range 2 * roundsOfChance {
			name := fmt.Sprintf("n%02d", c.random.IntN(nodesOfChance+5))
			switch c.random.IntN(14) {
			case 0:
				c.apply([]int{30, 60, 100}[c.random.IntN(3)], append(more, "on-failure=Rollback")...)
			case 1:
				c.node(name, []string{"zone=1", "NotReady"})
			case 2:
				c.node(name, []string{"zone=1"})
			case 3:
				c.node(name, []string{"zone=2", "role=edge"})
			case 4:
				c.happen([]string{"delete", "node", name})
			case 5:
				c.config("edge", []string{"priority=5", "selector=role=edge", "delay=5", "on-release=Cleanup"})
			case 6:
				c.happen([]string{"delete", "config", "edge"})
			case 7:
				c.updating = []string{"", "1 of 2"}[c.random.IntN(2)]
			case 8, 9:
				c.now = c.now.Add(time.Duration(c.random.IntN(40)) * time.Second)
				c.operate()
			default:
				c.report()
				c.operate()
			}
		}
		c.happen([]string{"delete", "config", "edge"})
		c.updating = ""
		for name := range c.nodes {
			c.node(name, []string{"zone=1"})
		}
		c.apply(120, more...)
		c.settle()
		c.expectEverywhere(seed)
	}
}
