package ipvs

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Scripts are what a kernel that offers everything is given for Service ports on a node with some addresses: the virtual
// servers, the sets, the rules of each family, and the routes; and which addresses get nothing. No kernel is asked. Health ports
// are those of OpenHealthPorts.
func Scripts(settings Settings, addresses []netip.Addr, ports []*forwarding.ServicePort, healthPorts []uint16) ([]xtables.Script, []Problem) {
	e := &Engine{servers: newServers(nil, nil), settings: settings}
	for _, t := range xtables.Ideal().Families {
		f := newFamily(t, &e.settings)
		f.rules.unmarks = true
		e.families = append(e.families, f)
	}
	e.SetAddresses(addresses)
	e.OpenHealthPorts(healthPorts)
	sets, local := xtables.Script{Program: "ipset restore"}, xtables.Script{Program: "ip -batch -"}
	var rules []xtables.Script
	for _, f := range e.families {
		for _, p := range ports {
			f.change([]forwarding.Change{{New: p}}, e.servers)
		}
		f.wantRules()
		sets.Lines = append(sets.Lines, f.setLines()...)
		rules = append(rules, f.rules.Script(jumps(), f.tables["nat"], f.tables["mangle"], f.tables["filter"]))
		local.Lines = append(local.Lines, routes.Lines(f.wantedRoutes())...)
	}
	scripts := []xtables.Script{{Program: "ipvsadm --restore", Lines: e.servers.lines()}, sets}
	return append(append(scripts, rules...), local), e.Problems()
}

// lines are the virtual servers that are wanted, as ipvsadm -S prints them.
func (s *servers) lines() []string {
	var lines []string
	for _, key := range slices.SortedFunc(maps.Keys(s.want), compareKeys) {
		state := virtualserver.State{Server: s.want[key].Server}
		for _, addr := range s.want[key].backends {
			state.Real = append(state.Real, virtualserver.RealState{RealServer: virtualserver.RealServer{Addr: addr, Weight: 1}})
		}
		server, _ := saved(&state)
		lines = append(lines, server...)
	}
	return lines
}

func compareKeys(a, b virtualserver.Key) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Mark, b.Mark))
}

// setLines are the sets of a family and the entries that are wanted in them, as ipset save prints them.
func (f *family) setLines() []string {
	var lines []string
	for k, l := range f.entries {
		set := kind(k).set(f.place.ipv6)
		var entries []string
		for key, w := range l.want {
			key.Mark, key.Mask = w.value.mark, w.value.mask
			entries = append(entries, set.Add(key))
		}
		slices.Sort(entries)
		lines = append(append(lines, set.Create(0)), entries...)
	}
	return lines
}
