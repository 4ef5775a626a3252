package iptables

import (
	"maps"
	"slices"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Scripts are what a kernel that offers everything is given for Service ports: the sets, and the rules of each family. No
// kernel is asked. Health ports are those of OpenHealthPorts.
func Scripts(settings Settings, ports []*forwarding.ServicePort, healthPorts []uint16) []xtables.Script {
	sets := xtables.Script{Program: "ipset restore"}
	var rules []xtables.Script
	for _, t := range xtables.Ideal().Families {
		e := newEngine(t, settings)
		e.healthPorts = healthPorts
		for _, p := range ports {
			e.note(forwarding.Change{New: p})
		}
		e.renderAll()
		e.flush()
		for _, name := range slices.Sorted(maps.Keys(e.sets.wanted)) {
			set := ipset.Set{Name: name, Kind: ipset.Addr, IPv6: t.IPv6}
			sets.Lines = append(sets.Lines, set.Create(e.sets.wanted[name]))
		}
		rules = append(rules, t.Script(jumps(), e.nat, e.filter))
	}
	if len(sets.Lines) == 0 {
		return rules
	}
	return append([]xtables.Script{sets}, rules...)
}
