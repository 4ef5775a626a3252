package xtables

import (
	"fmt"
	"slices"
	"strings"
)

// Differences names the chains of the owner that are not, or not only, as they were written. What was asked for and not
// written yet is no difference.
func (s *Table) Differences(d Dump) []string {
	var names []string
	for name := range s.kernel {
		if rules, there := d[name]; !there || s.summarize(rules) != s.kernel[name] {
			names = append(names, fmt.Sprintf("chain %s in table %s", name, s.name))
		}
	}
	for name := range d {
		if _, known := s.kernel[name]; !known && strings.HasPrefix(name, s.prefix) {
			names = append(names, fmt.Sprintf("chain %s in table %s", name, s.name))
		}
	}
	slices.Sort(names)
	return names
}

// String is the jump in words.
func (j Jump) String() string {
	rule := strings.Fields(j.text())
	return fmt.Sprintf("jump to %s in chain %s of table %s", rule[len(rule)-1], j.Chain, j.Table)
}

// Protocol is IPv4 or IPv6.
func (f Family) Protocol() string {
	if f.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}
