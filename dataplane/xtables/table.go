package xtables

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// Chain is the name of a chain and its rules. A rule is what follows "-A NAME" in iptables-save.
type Chain struct {
	Name  string
	Rules []string
}

// Table is one owner's chains in one table of one family: what the kernel is known to hold of them, and what is to be
// written.
type Table struct {
	name string
	// prefix starts the name of every chain of the owner.
	prefix string
	seed   maphash.Seed
	// kernel has every chain of the owner that the kernel holds.
	kernel map[string]summary
	// rules is how many rules they have together.
	rules int
	// pending has the chains that are to be written, or removed where the chain is nil.
	pending map[string]*Chain
}

// summary stands for the rules of a chain: remembering their text would cost more memory than everything else.
type summary struct {
	sum   uint64
	rules int
}

// NewTable returns a table of which the kernel is taken to hold nothing. Every chain has to have a name that begins with
// the prefix.
func NewTable(name, prefix string) *Table {
	return &Table{name: name, prefix: prefix, seed: maphash.MakeSeed(), kernel: map[string]summary{}, pending: map[string]*Chain{}}
}

// Rules is how many rules the kernel holds of the owner.
func (s *Table) Rules() int { return s.rules }

func (s *Table) summarize(rules []string) summary {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, rule := range rules {
		_, _ = h.WriteString(rule) // never fails
		_ = h.WriteByte('\n')
	}
	return summary{sum: h.Sum64(), rules: len(rules)}
}

// Found tells the table what the kernel holds.
func (s *Table) Found(d Dump) {
	s.kernel, s.rules = map[string]summary{}, 0
	for name, rules := range d {
		if strings.HasPrefix(name, s.prefix) {
			s.kernel[name] = s.summarize(rules)
			s.rules += len(rules)
		}
	}
}

// Forget takes back everything that was asked for and not written.
func (s *Table) Forget() {
	s.pending = map[string]*Chain{} // clear would keep room for as many as there ever were
}

// Want asks for a chain. Nothing is written where the kernel has it already.
func (s *Table) Want(c Chain) {
	if held, ok := s.kernel[c.Name]; ok && held == s.summarize(c.Rules) {
		delete(s.pending, c.Name)
		return
	}
	s.pending[c.Name] = &c
}

// Drop asks for a chain to be removed.
func (s *Table) Drop(name string) {
	if _, ok := s.kernel[name]; ok {
		s.pending[name] = nil
	} else {
		delete(s.pending, name)
	}
}

// DropAll asks for every chain to be removed that is not asked for after it.
func (s *Table) DropAll() {
	for name := range s.kernel {
		s.Drop(name)
	}
}

// script appends what iptables-restore --noflush has to be given to write what is pending, without the lines around it.
// Chains are emptied first, so that a chain can be removed in the transaction that takes the last jump to it away.
func (s *Table) script(b *bytes.Buffer) {
	names := slices.Sorted(maps.Keys(s.pending))
	for _, name := range names {
		b.WriteString(":" + name + " - [0:0]\n")
	}
	for _, name := range names {
		if c := s.pending[name]; c != nil {
			for _, rule := range c.Rules {
				b.WriteString("-A " + name + rule + "\n")
			}
		}
	}
	for _, name := range names {
		if s.pending[name] == nil {
			b.WriteString("-X " + name + "\n")
		}
	}
}

// written tells the table that the script went through.
func (s *Table) written() {
	for name, c := range s.pending {
		s.rules -= s.kernel[name].rules
		if c == nil {
			delete(s.kernel, name)
		} else {
			s.kernel[name] = s.summarize(c.Rules)
			s.rules += len(c.Rules)
		}
	}
	s.Forget()
}

// Dump is a table as iptables-save prints it: chains and their rules, each without "-A NAME".
type Dump map[string][]string

// parseSave reads what iptables-save prints (iptables-save(8)). Lines that are neither tables, chains nor rules are passed
// over.
func parseSave(text []byte) map[string]Dump {
	tables := map[string]Dump{}
	d := Dump{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			d = Dump{}
			tables[line[1:]] = d
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
	return tables
}
