package iptables

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// ruleset is one table of one family: what the kernel is known to hold of ours, and what is to be written.
type ruleset struct {
	table string
	seed  maphash.Seed
	// kernel has every chain of ours that the kernel holds.
	kernel map[string]summary
	// rules is how many rules they have together.
	rules int
	// pending has the chains that are to be written, or removed where the chain is nil.
	pending map[string]*chain
}

// summary stands for the rules of a chain: remembering their text would cost more memory than everything else.
type summary struct {
	sum   uint64
	rules int
}

func newRuleset(table string) *ruleset {
	return &ruleset{table: table, seed: maphash.MakeSeed(), kernel: map[string]summary{}, pending: map[string]*chain{}}
}

func (s *ruleset) summarize(rules []string) summary {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, rule := range rules {
		_, _ = h.WriteString(rule) // never fails
		_ = h.WriteByte('\n')
	}
	return summary{sum: h.Sum64(), rules: len(rules)}
}

// found tells the ruleset what the kernel holds.
func (s *ruleset) found(chains map[string][]string) {
	s.kernel, s.rules = make(map[string]summary, len(chains)), 0
	for name, rules := range chains {
		s.kernel[name] = s.summarize(rules)
		s.rules += len(rules)
	}
}

// want asks for a chain. Nothing is written where the kernel has it already.
func (s *ruleset) want(c chain) {
	if held, ok := s.kernel[c.name]; ok && held == s.summarize(c.rules) {
		delete(s.pending, c.name)
		return
	}
	s.pending[c.name] = &c
}

// drop asks for a chain to be removed.
func (s *ruleset) drop(name string) {
	if _, ok := s.kernel[name]; ok {
		s.pending[name] = nil
	} else {
		delete(s.pending, name)
	}
}

// dropOthers asks for every chain to be removed that has not been asked for.
func (s *ruleset) dropOthers(wanted map[string]bool) {
	for name := range s.kernel {
		if !wanted[name] {
			s.drop(name)
		}
	}
}

// script appends what iptables-restore --noflush has to be given to write what is pending. All of it is one transaction.
// Chains are emptied first, so that a chain can be removed in the transaction that takes the last jump to it away.
func (s *ruleset) script(b *bytes.Buffer) {
	if len(s.pending) == 0 {
		return
	}
	b.WriteString("*" + s.table + "\n")
	names := slices.Sorted(maps.Keys(s.pending))
	for _, name := range names {
		b.WriteString(":" + name + " - [0:0]\n")
	}
	for _, name := range names {
		if c := s.pending[name]; c != nil {
			for _, rule := range c.rules {
				b.WriteString("-A " + name + rule + "\n")
			}
		}
	}
	for _, name := range names {
		if s.pending[name] == nil {
			b.WriteString("-X " + name + "\n")
		}
	}
	b.WriteString("COMMIT\n")
}

// written tells the ruleset that the script went through.
func (s *ruleset) written() {
	for name, c := range s.pending {
		s.rules -= s.kernel[name].rules
		if c == nil {
			delete(s.kernel, name)
		} else {
			s.kernel[name] = s.summarize(c.rules)
			s.rules += len(c.rules)
		}
	}
	clear(s.pending)
}

// dump is a table as iptables-save prints it: chains and their rules, each without "-A NAME".
type dump map[string][]string

// parseSave reads what iptables-save prints of one table (iptables-save(8)). Lines that are neither chains nor rules are
// passed over.
func parseSave(text []byte) dump {
	d := dump{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			if d[name] == nil {
				d[name] = []string{}
			}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[len("-A "):], " ")
			d[name] = append(d[name], " "+rule)
		}
	}
	return d
}

// ours are the chains of a dump that this package made.
func (d dump) ours() map[string][]string {
	found := map[string][]string{}
	for name, rules := range d {
		if strings.HasPrefix(name, prefix) {
			found[name] = rules
		}
	}
	return found
}
