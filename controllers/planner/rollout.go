package planner

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// phase is how far a pool is, for its status.
type phase struct {
	// limit is how many nodes may be unavailable for another one to be changed.
	limit int
	// goal is the revision that all nodes are to have: the update, or what they return to.
	goal string
	// changing are the nodes that have the goal and are not available, others those that have not and are not.
	// Nodes that are gone are neither.
	changing, others int

	// moved are the nodes that are given the goal by this plan.
	moved int
	// waiting are the nodes that have the goal, or are given it now, and have to show that it works.
	waiting []string
	// pending are the nodes that have to wait for theirs.
	pending []string
	// absent are those of the pending whose Node is not Ready, and may be soon.
	absent []string
	// delayed are those of the pending that have to be selected by this config for a while first.
	delayed []string
	// canaries are the nodes that the others wait for, and proven is when they will have been in sync for long enough;
	// zero while they are not in sync.
	canary   bool
	canaries []string
	// eligible is how many nodes may be canaries.
	eligible int
	proven   time.Time
	failures []v1alpha1.FailedNode
	// rolling says that a node is on its way from one revision to another.
	rolling bool
}

// isStuck tells whether nobody is on the way, and nobody could be sent.
func (p *phase) isStuck() bool { return p.moved == 0 && len(p.waiting) == 0 && len(p.canaries) == 0 }

// decide works out what the nodes of the pool are given now.
func (p *pool) decide(plan *Plan) {
	for _, m := range p.members {
		p.observe(m, plan)
	}
	p.phase = phase{limit: p.limit(p.rollout.maxUnavailable)}
	if p.invalid != nil {
		return // nodes keep what they have, as it is: nobody can say what was meant
	}
	if p.world.Hold == "" {
		p.judge()
		p.complete()
	}
	goal, open := p.goal()
	p.phase.goal = goal
	p.join()
	if open {
		p.advance(goal, plan)
	}
	for _, m := range p.members {
		p.assign(m, goal, plan)
	}
}

// judge halts a rollout with which too many nodes have failed. Failed nodes use up maxUnavailable, so a threshold above
// that would never be reached.
func (p *pool) judge() {
	if p.halted != nil || !p.isChanging() {
		return
	}
	var failed []v1alpha1.FailedNode
	for _, m := range p.members {
		if m.verdict && m.changed && !m.stale && m.revision == p.update {
			failed = append(failed, *m.failure)
		}
	}
	if len(failed) < min(p.limit(p.rollout.failureThreshold), p.phase.limit) {
		return
	}
	p.halted = &v1alpha1.HaltedRollout{
		Revision: p.update, Retry: p.retry(), OnFailure: p.onFailure(), Message: p.haltedMessage(failed),
	}
}

// complete ends a rollout once every node has had its say: it has proved the settings, or failed with them and is one of
// the few that may, or its Node is not Ready. One node at least must have proved them.
func (p *pool) complete() {
	if p.halted != nil || !p.isChanging() {
		return
	}
	proven := len(p.members) == 0
	for _, m := range p.members {
		switch {
		case m.revision != p.update || !m.owned || m.stale:
			return
		case m.proven && m.node.Ready:
			proven = true
		case !m.verdict && m.node.Ready:
			return
		}
	}
	if proven {
		p.current, p.fallback = p.update, &p.config.Spec.ProxySettings
	}
}

// goal returns the revision that the nodes are to have, and whether any may be given it now.
func (p *pool) goal() (revision string, open bool) {
	open = !p.isPaused() && p.world.Updating == ""
	switch {
	case p.halted == nil:
		return p.update, open
	case p.halted.OnFailure == v1alpha1.OnFailureRollback:
		return p.current, open
	default:
		return p.update, false
	}
}

// join gives nodes that have nothing what has proved itself: there is nothing that it could break.
func (p *pool) join() {
	proven := p.update
	if p.isChanging() && p.fallback != nil {
		proven = p.current
	}
	for _, m := range p.members {
		if m.revision == "" {
			m.moves = proven
		}
	}
}

// advance gives as many nodes the goal as may be out of order at one time.
//
// First come nodes that are out of order because of what they have, and what they have is not where anybody wants to
// be; then the canary nodes, and when these have proved themselves all others, zone by zone, the oldest first. Nodes that
// are gone for too long are given it together with those.
func (p *pool) advance(goal string, plan *Plan) {
	for _, m := range p.members {
		switch {
		case m.gone || m.available():
		case p.has(m, goal):
			p.phase.changing++
		default:
			p.phase.others++
		}
	}
	var stranded, rest []*member
	for _, m := range p.members {
		switch {
		case m.revision == "" || p.has(m, goal) || p.isDelayed(m, plan) || p.isAbsent(m, plan):
		case p.isStranded(m):
			stranded = append(stranded, m)
		default:
			rest = append(rest, m)
		}
	}
	slices.SortFunc(stranded, byZoneAndAge)
	slices.SortFunc(rest, byZoneAndAge)
	for _, m := range stranded {
		p.offer(m, goal)
	}
	if p.isBaking(goal, plan) {
		rest = p.chooseCanaries(goal, rest)
	}
	for _, m := range rest {
		p.offer(m, goal)
	}
	for _, m := range p.members {
		if p.phase.canary && p.mayBeCanary(m, goal) && (p.has(m, goal) || m.moves == goal) {
			p.phase.canaries = append(p.phase.canaries, m.node.Name)
		}
	}
}

// offer gives a node the goal if that leaves no more nodes out of order than may be. One that is out of order already
// makes it no worse.
func (p *pool) offer(m *member, goal string) {
	switch out := !m.available(); {
	case m.gone:
	case p.phase.changing >= p.phase.limit:
		return
	case out && !p.isStranded(m):
		return // it is not known to be the settings, so others would not help
	case out:
		p.phase.others--
		p.phase.changing++
	case p.phase.changing+p.phase.others >= p.phase.limit:
		return
	default:
		p.phase.changing++
	}
	m.moves = goal
	p.phase.moved++
}

// has tells whether a node has the goal, and is not to try it again.
func (p *pool) has(m *member, goal string) bool { return m.revision == goal && m.owned && !m.stale }

// isStranded tells whether a node failed with what it has, or was left out of order by settings that have been
// superseded, or forwards nothing: others may be what helps, such as those that repair what somebody has removed.
func (p *pool) isStranded(m *member) bool {
	if m.available() {
		return false
	}
	return m.reported || m.stale || m.broken || m.owned && m.revision != p.current && !m.inSync
}

// isDelayed tells whether a node that another config had has to be selected by this one for a while first.
func (p *pool) isDelayed(m *member, plan *Plan) bool {
	if m.owned || p.rollout.delay == 0 {
		return false
	}
	now := p.world.Now.Time
	due := m.wantedSince(p.config.Name, now).Add(p.rollout.delay)
	plan.again(due, now)
	if !now.Before(due) {
		return false
	}
	p.phase.delayed = append(p.phase.delayed, m.node.Name)
	return true
}

// isAbsent tells whether a node may be back soon and is not to come back to other settings.
func (p *pool) isAbsent(m *member, plan *Plan) bool {
	if m.node.Ready || m.gone {
		return false
	}
	plan.again(m.node.Since.Add(p.rollout.timeout), p.world.Now.Time)
	p.phase.absent = append(p.phase.absent, m.node.Name)
	return true
}

// isBaking tells whether the canary nodes have to prove themselves before others follow. Any nodes that may be canaries
// do, so one that leaves or fails is replaced.
func (p *pool) isBaking(goal string, plan *Plan) bool {
	if p.rollout.canaries == 0 || !p.isChanging() || goal != p.update {
		return false
	}
	now, bake := p.world.Now.Time, max(p.rollout.bake, p.rollout.minReady)
	var due []time.Time // when a canary in sync will have been so for long enough
	for _, m := range p.members {
		if !p.mayBeCanary(m, goal) {
			continue
		}
		p.phase.eligible++
		if p.has(m, goal) && m.inSync {
			due = append(due, m.since.Add(bake))
		}
	}
	slices.SortFunc(due, time.Time.Compare)
	need := max(1, min(p.rollout.canaries, p.phase.eligible))
	if len(due) >= need {
		p.phase.proven = due[need-1]
		plan.again(due[need-1], now)
	}
	p.phase.canary = len(due) < need || now.Before(due[need-1])
	return p.phase.canary
}

// mayBeCanary tells whether a node can prove the goal. One that has failed with it cannot.
func (p *pool) mayBeCanary(m *member, goal string) bool {
	return m.node.Ready && (m.failure == nil || !p.has(m, goal)) && p.canaries.Matches(m.node.Labels)
}

// chooseCanaries returns those of the nodes that become canaries, spread over zones.
func (p *pool) chooseCanaries(goal string, nodes []*member) []*member {
	zones := map[string]int{}
	missing := p.rollout.canaries
	for _, m := range p.members {
		if p.mayBeCanary(m, goal) && (p.has(m, goal) || m.moves == goal) {
			zones[zone(m)]++
			missing--
		}
	}
	var chosen []*member
	for ; missing > 0; missing-- {
		var next *member // of the zone with the fewest canaries; nodes are in order
		for _, m := range nodes {
			if p.mayBeCanary(m, goal) && !slices.Contains(chosen, m) && (next == nil || zones[zone(m)] < zones[zone(next)]) {
				next = m
			}
		}
		if next == nil {
			break
		}
		zones[zone(next)]++
		chosen = append(chosen, next)
	}
	return chosen
}

// assign writes down what a node is to have, and counts it.
func (p *pool) assign(m *member, goal string, plan *Plan) {
	now, has := p.world.Now.Time, p.has(m, goal)
	if m.moves != "" {
		plan.Assignments = append(plan.Assignments, p.give(m))
		has = m.moves == goal
	} else {
		a := p.keep(m)
		if !m.owned && p.rollout.delay > 0 {
			a.Annotations = m.annotations(wanted(p.config.Name, m.wantedSince(p.config.Name, now)))
		}
		plan.Assignments = append(plan.Assignments, a)
	}
	if m.failure != nil && (m.moves == "" || p.halted != nil) {
		p.phase.failures = append(p.phase.failures, *m.failure)
	}
	switch {
	case !has:
		p.phase.pending = append(p.phase.pending, m.node.Name)
	case m.node.Ready && (m.moves != "" || (m.failure == nil || m.trying) && !m.proven):
		p.phase.waiting = append(p.phase.waiting, m.node.Name)
		p.phase.rolling = p.phase.rolling || m.changed || m.moves != "" && m.revision != ""
	}
}

func byZoneAndAge(a, b *member) int {
	return cmp.Or(cmp.Compare(zone(a), zone(b)), a.node.Created.Compare(b.node.Created.Time),
		cmp.Compare(a.node.Name, b.node.Name))
}

func zone(m *member) string { return m.node.Labels[corev1.LabelTopologyZone] }

// wantedSince returns since when a config selects the node of an object that another one has: now if that was not
// noted before.
func (m *member) wantedSince(config string, now time.Time) time.Time {
	text, noted := cutName(m.object.Annotations[AnnotationWanted], config)
	since, err := time.Parse(time.RFC3339, text)
	if !noted || err != nil {
		return now.Truncate(time.Second)
	}
	return since
}

func wanted(config string, since time.Time) string {
	return fmt.Sprintf("%s/%s", config, since.UTC().Format(time.RFC3339))
}
