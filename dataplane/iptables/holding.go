package iptables

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Holding reads back the rules that a new connection to a destination may meet, and names what of them is not as it was
// written.
func (e *Engine) Holding(ctx context.Context, to netip.AddrPort, protocol forwarding.Protocol) (xtables.Holding, error) {
	for _, f := range e.families {
		if f.tools.IPv6 == to.Addr().Is6() {
			return f.holding(ctx, to, protocol)
		}
	}
	return xtables.Holding{}, nil
}

func (e *engine) holding(ctx context.Context, to netip.AddrPort, protocol forwarding.Protocol) (xtables.Holding, error) {
	var h xtables.Holding
	dumps, err := e.tools.Read(ctx)
	if err != nil {
		return h, err
	}
	for _, table := range []struct {
		name, chain string
		*xtables.Table
	}{{"nat", chainServices, e.nat}, {"filter", chainFilter, e.filter}} {
		met := map[string]bool{table.chain: true}
		for _, step := range dumps[table.name].Walk(table.chain, to, protocol) {
			met[step.Chain] = true
			h.Lines = append(h.Lines, step.String())
			if _, backend, leads := strings.Cut(step.Rule, " --to-destination "); leads {
				if b, err := netip.ParseAddrPort(strings.TrimSpace(backend)); err == nil && !slices.Contains(h.Backends, b) {
					h.Backends = append(h.Backends, b)
				}
			}
		}
		for name := range met {
			h.Differences = append(h.Differences, table.Different(name, dumps[table.name])...)
		}
	}
	for _, jump := range xtables.Missing(jumps(), dumps) {
		h.Differences = append(h.Differences, jump.String())
	}
	slices.Sort(h.Differences)
	return h, nil
}
