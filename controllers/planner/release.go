package planner

import (
	"strings"
	"time"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// release decides what becomes of a node that no config selects any more: it keeps what it has, or gives everything
// back if its last config says so. The label of a node that comes and goes must not end its Services, so that is done
// only after the delay that there is for changing over to another config.
func release(world *World, pools []*pool, m *member, plan *Plan) {
	object, now := m.object, world.Now.Time
	policy, delay := releasePolicy(world, pools, object.Spec.ConfigRef.Name)
	assignment := Assignment{
		Config: object.Spec.ConfigRef.Name, Node: m.node.Name, UID: m.node.UID, Spec: object.Spec,
		Annotations: m.annotations(""),
	}
	if policy == v1alpha1.ReleaseCleanup && object.Spec.Action != v1alpha1.ActionRelease {
		since := m.wantedSince("", now)
		if due := since.Add(delay); now.Before(due) {
			assignment.Annotations = m.annotations(wanted("", since))
			plan.again(due, now)
		} else {
			assignment.Spec.Action = v1alpha1.ActionRelease
		}
	}
	plan.Assignments = append(plan.Assignments, assignment)
}

// releasePolicy returns what a config says about nodes that no config selects any more. One that was deleted has left
// that with its last revision.
func releasePolicy(world *World, pools []*pool, config string) (v1alpha1.ReleasePolicy, time.Duration) {
	for _, p := range pools {
		if p.config.Name == config {
			return p.config.Spec.OnRelease, p.rollout.delay
		}
	}
	if last := newest(world.Revisions, config); last != nil {
		return last.OnRelease, defaultDelay
	}
	return v1alpha1.ReleaseRetain, defaultDelay
}

// cutName returns what follows the name in NAME/TEXT, and whether that is the name.
func cutName(text, name string) (string, bool) { return strings.CutPrefix(text, name+"/") }
