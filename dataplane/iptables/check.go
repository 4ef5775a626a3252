package iptables

import (
	"context"
	"fmt"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Compare names what the kernel does not hold as it was written, of everything or only in some places, and writes nothing.
// What Apply has still to write after an error is not among it.
func (e *Engine) Compare(ctx context.Context, only ...xtables.Place) ([]string, error) {
	var all []string
	for _, f := range e.families {
		different, err := f.compare(ctx, only)
		if err != nil {
			return nil, err
		}
		for _, what := range different {
			all = append(all, what+" of "+f.tools.Protocol())
		}
	}
	return all, nil
}

// Changed says whether somebody else may have changed something, at next to no cost and as far as no list is needed for it.
func (e *Engine) Changed(context.Context) (bool, error) {
	some := false
	for _, f := range e.families {
		changed, err := f.glance.Changed()
		if err != nil {
			return false, err
		}
		some = some || changed
	}
	return some, nil
}

func (e *engine) compare(ctx context.Context, only []xtables.Place) ([]string, error) {
	if e.stale {
		return nil, nil
	}
	read, err := e.tools.ReadPlaces(ctx, only)
	if err != nil {
		return nil, err
	}
	different := e.order.Different(prefix, read.Jumps(jumps()), read.Tables)
	different = append(different, e.nat.Compare(read)...)
	different = append(different, e.filter.Compare(read)...)
	if !e.render.MatchesSets || len(only) > 0 {
		return different, nil
	}
	sets, err := e.sets.differences()
	return append(different, sets...), err
}

// differences names the sets that are not there, and those that should not be.
func (s *sets) differences() ([]string, error) {
	names, err := ipset.Names(setPrefix(s.ipv6))
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(names))
	var different []string
	for _, name := range names {
		if there[name] = true; !s.held[name] {
			different = append(different, fmt.Sprintf("set %s", name))
		}
	}
	for name := range s.held {
		if !there[name] {
			different = append(different, fmt.Sprintf("set %s", name))
		}
	}
	return different, nil
}
