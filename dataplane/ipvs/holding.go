package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Holding reads back the virtual servers and the entries of sets that a new connection to a destination may meet, and names
// what of them, or of the rules and routes that lead there, is not as it was written.
func (e *Engine) Holding(ctx context.Context, to netip.AddrPort, protocol forwarding.Protocol) (xtables.Holding, error) {
	var h xtables.Holding
	keys := []virtualserver.Key{virtualserver.At(to, protocol)}
	for _, f := range e.families {
		if f.place.ipv6 != to.Addr().Is6() {
			continue
		}
		marks, err := f.entriesAt(ctx, e.sets, to, protocol, &h)
		if err != nil {
			return h, err
		}
		for _, mark := range marks {
			keys = append(keys, virtualserver.Marked(mark, f.place.ipv6))
		}
		if err := f.pathTo(ctx, to, &h); err != nil {
			return h, err
		}
	}
	for _, key := range keys {
		state, err := e.kernel.Get(ctx, key)
		switch _, written := e.servers.have[key]; {
		case errors.Is(err, unix.ESRCH):
			if written {
				h.Differences = append(h.Differences, "virtual server "+key.String())
			}
			continue
		case err != nil:
			return h, err
		}
		if !e.servers.asWritten(&state) {
			h.Differences = append(h.Differences, "virtual server "+key.String())
		}
		lines, backends := saved(&state)
		h.Lines = append(h.Lines, lines...)
		for _, b := range backends {
			if !slices.Contains(h.Backends, b) {
				h.Backends = append(h.Backends, b)
			}
		}
	}
	return h, nil
}

// entriesAt adds the entries for a destination, and returns the marks that they lead to virtual servers by.
func (f *family) entriesAt(ctx context.Context, sets *ipset.Kernel, to netip.AddrPort, protocol forwarding.Protocol, h *xtables.Holding) ([]uint32, error) {
	var marks []uint32
	at := func(e ipset.Entry) bool {
		return e.Addr == to.Addr() && (e.Protocol == 0 || e.Protocol == uint8(protocol) && e.Port == to.Port())
	}
	for k := range kinds {
		set := k.set(f.place.ipv6)
		listed, err := sets.List(ctx, set)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
		held, written := map[ipset.Entry]bool{}, f.entries[k].have
		for _, e := range listed {
			if !at(e) {
				continue
			}
			h.Lines = append(h.Lines, set.Add(e))
			if e.Mask == ^uint32(0) && !slices.Contains(marks, e.Mark) {
				marks = append(marks, e.Mark)
			}
			key, value := split(e)
			if held[key] = true; written[key] != value {
				h.Differences = append(h.Differences, fmt.Sprintf("entry %s of set %s", e, set.Name))
			}
		}
		for key := range written {
			if at(key) && !held[key] {
				h.Differences = append(h.Differences, fmt.Sprintf("entry %s of set %s", key, set.Name))
			}
		}
	}
	return marks, nil
}

// pathTo names the rules that are not as they were written, and the routes to a destination that are not.
func (f *family) pathTo(ctx context.Context, to netip.AddrPort, h *xtables.Holding) error {
	dumps, err := f.rules.Read(ctx)
	if err != nil {
		return err
	}
	for _, jump := range xtables.Missing(jumps(), dumps) {
		h.Differences = append(h.Differences, jump.String())
	}
	for _, name := range tables() {
		h.Differences = append(h.Differences, f.tables[name].Differences(dumps[name])...)
	}
	found, err := routes.Compare(ctx, f.place.ipv6, f.wantedRoutes())
	for _, r := range found {
		if r.Prefix.Contains(to.Addr()) && !f.isTaken(r) {
			h.Differences = append(h.Differences, fmt.Sprintf("route %s", r))
		}
	}
	return err
}

// saved is a virtual server as ipvsadm -S prints it, and the real servers that new connections go to.
func saved(s *virtualserver.State) (lines []string, backends []netip.AddrPort) {
	name := map[forwarding.Protocol]string{
		forwarding.TCP: "-t ", forwarding.UDP: "-u ", forwarding.SCTP: "--sctp-service ",
	}[s.Protocol] + netip.AddrPortFrom(s.Addr, s.Port).String()
	if s.Mark != 0 {
		name = fmt.Sprintf("-f %d", s.Mark)
		if s.IPv6 {
			name += " -6"
		}
	}
	line := fmt.Sprintf("-A %s -s %s", name, s.Scheduler)
	if s.Flags&virtualserver.FlagPersistent != 0 {
		line += fmt.Sprintf(" -p %d", s.PersistenceSeconds)
	}
	var flags []string
	if s.Flags&virtualserver.FlagSourcePort != 0 {
		flags = append(flags, "flag-2")
	}
	if s.Ours() {
		flags = append(flags, "flag-3")
	}
	if len(flags) > 0 {
		line += " -b " + strings.Join(flags, ",")
	}
	lines = append(lines, line)
	servers := slices.SortedFunc(slices.Values(s.Real), func(a, b virtualserver.RealState) int { return a.Addr.Compare(b.Addr) })
	for _, r := range servers {
		lines = append(lines, fmt.Sprintf("-a %s -r %s -m -w %d", name, r.Addr, r.Weight))
		if r.Weight > 0 {
			backends = append(backends, r.Addr)
		}
	}
	return lines, backends
}
