package ipset

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
)

// Create is how the set is made, in the words of ipset(8). Its entries are forgotten after some seconds, unless they are 0.
func (s Set) Create(seconds uint32) string {
	form, family := s.Kind.form(), "inet"
	if s.IPv6 {
		family = "inet6"
	}
	line := fmt.Sprintf("create %s %s family %s maxelem %d", s.Name, form.name, family, maxElements)
	if seconds > 0 {
		line += fmt.Sprintf(" timeout %d", seconds)
	}
	if form.extensions&nl.IPSET_FLAG_WITH_SKBINFO != 0 {
		line += " skbinfo"
	}
	return line
}

// Add is how an entry is added to the set, in the words of ipset(8).
func (s Set) Add(e Entry) string {
	line := fmt.Sprintf("add %s %s", s.Name, e)
	switch {
	case e.Mask == ^uint32(0):
		line += fmt.Sprintf(" skbmark %#x", e.Mark)
	case e.Mask != 0:
		line += fmt.Sprintf(" skbmark %#x/%#x", e.Mark, e.Mask)
	}
	return line
}
