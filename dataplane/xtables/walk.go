package xtables

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Holding is what the kernel holds for one destination, read back.
type Holding struct {
	// Lines are rules, entries of sets and virtual servers, as iptables-save, ipset save and ipvsadm -S print them.
	Lines []string
	// Backends are those that the lines lead new connections to, in the order of the lines, each once.
	Backends []netip.AddrPort
	// Differences name what is not as it was written.
	Differences []string
}

// Step is a rule that a packet meets, and the chain that it is in.
type Step struct{ Chain, Rule string }

// String is the rule as iptables-save prints it.
func (s Step) String() string { return "-A " + s.Chain + s.Rule }

// Walk lists the rules that a packet to a destination may meet from a chain on, in order. Whether a rule applies that looks
// at more than the destination is not known here, so such a rule is taken both ways.
func (d Dump) Walk(chain string, to netip.AddrPort, protocol forwarding.Protocol) []Step {
	w := walk{dump: d, to: to, protocol: protocol, been: map[string]bool{}}
	w.chain(chain)
	return w.steps
}

type walk struct {
	dump     Dump
	to       netip.AddrPort
	protocol forwarding.Protocol
	been     map[string]bool
	steps    []Step
}

func (w *walk) chain(name string) {
	if w.been[name] {
		return
	}
	w.been[name] = true
	for _, text := range w.dump[name] {
		r := parseRule(text)
		if !r.takes(w.to, w.protocol) {
			continue
		}
		w.steps = append(w.steps, Step{Chain: name, Rule: text})
		if _, ours := w.dump[r.target]; ours {
			w.chain(r.target)
		}
		if r.certain && (r.goes || ends(r.target)) {
			return
		}
	}
}

// ends says whether no rule of the chain comes after one with this target.
func ends(target string) bool {
	switch target {
	case "ACCEPT", "DROP", "REJECT", "RETURN", "DNAT", "MASQUERADE":
		return true
	}
	return false
}

// rule is what a rule asks of a destination, and where it leads.
type rule struct {
	network     netip.Prefix
	notNetwork  bool
	protocol    string
	first, last int
	target      string
	// goes says that it does not come back from the target; certain that it asks nothing but the destination.
	goes, certain bool
}

func parseRule(text string) rule {
	r := rule{certain: true}
	words := strings.Fields(text)
	for i := 0; i+1 < len(words); i++ {
		value := words[i+1]
		switch words[i] {
		case "!":
			continue
		case "-d":
			r.network, _ = netip.ParsePrefix(value) // iptables-save always prints one
			r.notNetwork = i > 0 && words[i-1] == "!"
		case "-p":
			r.protocol = value
		case "--dport":
			first, last, span := strings.Cut(value, ":")
			r.first, _ = strconv.Atoi(first)
			if r.last = r.first; span {
				r.last, _ = strconv.Atoi(last)
			}
		case "-j", "-g":
			r.target, r.goes = value, words[i] == "-g"
			return r
		case "-m":
			switch value {
			case "comment", "tcp", "udp", "sctp":
			default:
				r.certain = false
			}
		case "-s", "-i", "-o":
			r.certain = false
		}
	}
	return r
}

func (r *rule) takes(to netip.AddrPort, protocol forwarding.Protocol) bool {
	switch {
	case r.network.IsValid() && r.network.Contains(to.Addr()) == r.notNetwork:
		return false
	case r.protocol != "" && r.protocol != protocol.String():
		return false
	}
	return r.last == 0 || r.first <= int(to.Port()) && int(to.Port()) <= r.last
}

// Different names a chain of the owner if it is not as it was written.
func (s *Table) Different(chain string, d Dump) []string {
	rules, there := d[chain]
	if held, written := s.kernel[chain]; written == there && (!there || s.summarize(rules) == held) {
		return nil
	}
	return []string{"chain " + chain + " in table " + s.name}
}
