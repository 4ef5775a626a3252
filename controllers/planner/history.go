package planner

import (
	"cmp"
	"slices"
)

// defaultHistory is how many old revisions of a config are kept that nobody uses.
const defaultHistory = 5

// keepHistory notes the revisions that have to be there, and those that are no longer of use: neither to a config nor
// to any node, and older than as many as the config keeps.
func keepHistory(world *World, pools []*pool, plan *Plan) {
	limits := map[string]int{}
	used := map[string]bool{}
	for _, p := range pools {
		limits[p.config.Name] = cmp.Or(int(p.config.Spec.RevisionHistoryLimit), defaultHistory)
		used[p.update], used[p.current] = true, true
		plan.Revisions = append(plan.Revisions, p.record())
	}
	for i := range world.Objects {
		object := &world.Objects[i]
		used[object.Spec.Revision], used[object.Status.AppliedRevision] = true, true
		if last := newest(world.Revisions, object.Spec.ConfigRef.Name); last != nil {
			used[last.Name] = true // it says what becomes of the node when the config is gone
		}
	}
	old := map[string][]Revision{}
	for _, r := range world.Revisions {
		if !used[r.Name] {
			old[r.Config] = append(old[r.Config], r)
		}
	}
	for config, revisions := range old {
		slices.SortFunc(revisions, func(a, b Revision) int {
			return cmp.Or(cmp.Compare(b.Number, a.Number), cmp.Compare(a.Name, b.Name))
		})
		for _, r := range revisions[min(limits[config], len(revisions)):] {
			plan.Obsolete = append(plan.Obsolete, r.Name)
		}
	}
	slices.Sort(plan.Obsolete)
}

// record returns the settings of the config as its latest revision, also if it had them before.
func (p *pool) record() Revision {
	r := Revision{
		Name: p.update, Config: p.config.Name, Number: 1,
		Settings: p.config.Spec.ProxySettings, OnRelease: p.config.Spec.OnRelease,
	}
	if last := newest(p.world.Revisions, p.config.Name); last != nil {
		r.Number = last.Number
		if last.Name != p.update {
			r.Number++
		}
	}
	return r
}

// newest returns the latest revision of a config, or nil if there is none.
func newest(revisions []Revision, config string) *Revision {
	var last *Revision
	for i := range revisions {
		r := &revisions[i]
		if r.Config == config && (last == nil || cmp.Or(cmp.Compare(r.Number, last.Number), cmp.Compare(last.Name, r.Name)) > 0) {
			last = r
		}
	}
	return last
}
