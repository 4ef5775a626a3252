package xtables

import (
	"fmt"
	"strings"
)

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
