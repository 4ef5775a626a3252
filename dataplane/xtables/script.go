package xtables

import (
	"maps"
	"slices"
)

// Script is what a program has to be given for the kernel to hold something.
type Script struct {
	// Program is the command that reads it from standard input.
	Program string   `json:"program"`
	Lines   []string `json:"lines"`
}

// Ideal are the tools of a node that offers everything that rules can use. They are there to work rules out by where there is
// no node: they can neither read nor write.
func Ideal() *Tools {
	t := &Tools{}
	for _, f := range families() {
		t.Families = append(t.Families, &Programs{Family: f, MatchesHairpins: true, MatchesSets: true})
	}
	return t
}

// Script is what is pending in tables, and the jumps to it, in the words of iptables-save.
func (f Family) Script(jumps []Jump, tables ...*Table) Script {
	s := Script{Program: "iptables-restore --noflush"}
	if f.IPv6 {
		s.Program = "ip6tables-restore --noflush"
	}
	for _, t := range tables {
		names := slices.Sorted(maps.Keys(t.pending))
		s.Lines = append(s.Lines, "*"+t.name)
		for _, name := range names {
			s.Lines = append(s.Lines, ":"+name+" - [0:0]")
		}
		for _, j := range jumps {
			if j.Table == t.name {
				s.Lines = append(s.Lines, "-A "+j.Chain+j.text())
			}
		}
		for _, name := range names {
			for _, rule := range t.pending[name].Rules {
				s.Lines = append(s.Lines, "-A "+name+rule)
			}
		}
		s.Lines = append(s.Lines, "COMMIT")
	}
	return s
}
