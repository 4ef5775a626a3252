package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
)

// Compare names what the kernel does not hold as it was written, and writes nothing. It reads everything: rules are few. What Apply has still to write after
// an error is not among it.
func (e *Engine) Compare(ctx context.Context) ([]string, error) {
	if e.stale {
		return nil, nil
	}
	states, err := e.kernel.List(ctx)
	if err != nil {
		return nil, err
	}
	different := e.servers.differences(states)
	for _, f := range e.families {
		found, err := f.compare(ctx, e.sets)
		if err != nil {
			return nil, err
		}
		for _, what := range found {
			different = append(different, what+" of "+f.rules.Protocol())
		}
	}
	return different, nil
}

// differences names the virtual servers that are not as they were written. One of somebody else is of interest only when it
// is gone and its address could be ours.
func (s *servers) differences(states []virtualserver.State) []string {
	var different []string
	there := make(map[virtualserver.Key]bool, len(states))
	for i := range states {
		there[states[i].Key] = true
		if !s.asWritten(&states[i]) {
			different = append(different, "virtual server "+states[i].Key.String())
		}
	}
	for key, h := range s.have {
		if _, wanted := s.want[key]; !there[key] && (wanted || !h.foreign) {
			different = append(different, "virtual server "+key.String())
		}
	}
	slices.Sort(different)
	return different
}

// asWritten says whether a virtual server is as it was written, with its real servers, or not ours.
func (s *servers) asWritten(state *virtualserver.State) bool {
	h := s.have[state.Key]
	if h == nil || h.foreign {
		return !state.Ours()
	}
	if h.Server != state.Server || len(h.weights) != len(state.Real) {
		return false
	}
	return !slices.ContainsFunc(state.Real, func(r virtualserver.RealState) bool {
		weight, known := h.weights[r.Addr]
		return !known || weight != r.Weight
	})
}

// compare names the rules, sets and routes that are not as they were written.
func (f *family) compare(ctx context.Context, sets *ipset.Kernel) ([]string, error) {
	read, err := f.rules.ReadPlaces(ctx, nil)
	if err != nil {
		return nil, err
	}
	different := f.order.Different(prefix, jumps(), read.Tables)
	for _, name := range tables() {
		different = append(different, f.tables[name].Compare(read)...)
	}
	for k := range kinds {
		set := k.set(f.place.ipv6)
		same, err := f.holds(ctx, sets, k)
		if err != nil {
			return nil, err
		}
		if !same {
			different = append(different, "set "+set.Name)
		}
	}
	found, err := routes.Compare(ctx, f.place.ipv6, f.wantedRoutes())
	for _, r := range found {
		if !f.isTaken(r) {
			different = append(different, fmt.Sprintf("route %s", r))
		}
	}
	return different, err
}

// holds says whether a set has the entries that were written, and no others.
func (f *family) holds(ctx context.Context, sets *ipset.Kernel, k kind) (bool, error) {
	held, err := sets.List(ctx, k.set(f.place.ipv6))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	have := make(map[ipset.Entry]mark, len(held))
	for _, e := range held {
		key, value := split(e)
		have[key] = value
	}
	return maps.Equal(have, f.entries[k].have), nil
}

// serversAtOnce is how many virtual servers Changed looks at closely: their turn comes again when all others had theirs.
const serversAtOnce = 100

// Changed says whether somebody else may have changed something, at little cost and as far as no full list is needed for
// it. The weights of real servers, and virtual servers of IPv6, are looked at in turn.
func (e *Engine) Changed(ctx context.Context) (bool, error) {
	if e.stale {
		return false, nil
	}
	changed, err := e.servers.changed(ctx)
	if err != nil || changed {
		return changed, err
	}
	for _, f := range e.families {
		if changed, err = f.changed(ctx, e.sets); err != nil || changed {
			return changed, err
		}
	}
	return false, nil
}

func (s *servers) changed(ctx context.Context) (bool, error) {
	ours, changed := 0, false
	err := virtualserver.Summaries(func(server virtualserver.Server, reals int) {
		if h := s.have[server.Key]; h == nil || h.foreign {
			changed = changed || server.Ours()
			return
		}
		h := s.have[server.Key]
		ours++
		changed = changed || h.Server != server || len(h.weights) != reals
	})
	if err != nil {
		return false, err
	}
	for key, h := range s.have {
		if !key.IPv6 && !h.foreign {
			ours--
		}
	}
	if changed || ours != 0 {
		return true, nil
	}
	return s.changedInTurn(ctx)
}

// changedInTurn looks closely at the next virtual servers.
func (s *servers) changedInTurn(ctx context.Context) (bool, error) {
	if len(s.turn) == 0 {
		s.turn = slices.Collect(maps.Keys(s.have))
	}
	some := s.turn[:min(serversAtOnce, len(s.turn))]
	s.turn = s.turn[len(some):]
	for _, key := range some {
		h := s.have[key]
		if h == nil || h.foreign {
			continue // it has gone since
		}
		state, err := s.kernel.Get(ctx, key)
		if errors.Is(err, unix.ESRCH) || err == nil && !s.asWritten(&state) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

func (f *family) changed(ctx context.Context, sets *ipset.Kernel) (bool, error) {
	if changed, err := f.glance.Changed(); err != nil || changed {
		return changed, err
	}
	for k := range kinds {
		count, err := sets.Count(ctx, k.set(f.place.ipv6))
		if errors.Is(err, unix.ENOENT) || err == nil && count != len(f.entries[k].have) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	found, err := routes.Compare(ctx, f.place.ipv6, f.wantedRoutes())
	return slices.ContainsFunc(found, func(r routes.Route) bool { return !f.isTaken(r) }), err
}

// isTaken says whether a route of ours is not there because somebody else has it.
func (f *family) isTaken(r routes.Route) bool {
	return slices.ContainsFunc(f.taken, func(t *routes.Failure) bool { return t.Route == r })
}
