package probe

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Path is an address of a target, and the backends behind it for connections from this node.
type Path struct {
	Passed
	Backends []netip.AddrPort
}

// Paths are the ways to targets through their cluster IPs, by name of the target and then IPv4 first.
func Paths(table *forwarding.Table, targets []Target) []Path {
	var all []Path
	for _, t := range targets {
		for _, port := range table.Service(t.Service) {
			if port.ID.Protocol != forwarding.TCP {
				continue
			}
			for i := range port.Frontends {
				f := &port.Frontends[i]
				if f.Kind == forwarding.ClusterIP && f.Key.Port == t.Port && f.Key.Addr.IsValid() {
					all = append(all, Path{
						Passed:   Passed{Target: t, At: netip.AddrPortFrom(f.Key.Addr, f.Key.Port)},
						Backends: port.Backends(f.Routes[forwarding.Host].Pool),
					})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Path) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.At.Compare(b.At)) })
	return all
}

const (
	// tries is how often in a row a path has to fail before anything is said.
	tries = 3
	// askable is how many backends a path may have. Of more it takes too many connections to know that all answer.
	askable = 8
)

// Broken tries every path, and returns those that lead nowhere although each of their backends answers when it is asked
// directly: what is wrong then lies on this node, between the two. A backend that does not answer, or one too many to ask
// them all, says nothing about the node.
func (p *Prober) Broken(ctx context.Context, paths []Path) []Passed {
	suspects := p.failing(ctx, paths)
	suspects = slices.DeleteFunc(suspects, func(s Path) bool { return !p.answerDirectly(ctx, s.Backends) })
	for range tries - 1 {
		if len(suspects) == 0 || !pauseFor(ctx, p.Clock) {
			return nil
		}
		suspects = p.failing(ctx, suspects)
	}
	if ctx.Err() != nil {
		return nil
	}
	var broken []Passed
	for _, s := range suspects {
		broken = append(broken, s.Passed)
	}
	return broken
}

// failing are the paths that do not answer.
func (p *Prober) failing(ctx context.Context, paths []Path) []Path {
	var all []Passed
	for _, path := range paths {
		all = append(all, path.Passed)
	}
	var failing []Path
	for i, err := range p.tryAll(ctx, all) {
		if err != nil {
			failing = append(failing, paths[i])
		}
	}
	return failing
}

// answerDirectly says whether every backend answers.
func (p *Prober) answerDirectly(ctx context.Context, backends []netip.AddrPort) bool {
	if len(backends) == 0 || len(backends) > askable {
		return false
	}
	all := make([]Passed, 0, len(backends))
	for _, b := range backends {
		all = append(all, Passed{At: b})
	}
	return !slices.ContainsFunc(p.tryAll(ctx, all), func(err error) bool { return err != nil })
}

// pauseFor waits a moment, and says whether the context still lives.
func pauseFor(ctx context.Context, clk clock.Clock) bool {
	select {
	case <-ctx.Done():
		return false
	case <-clk.After(pause):
		return true
	}
}
