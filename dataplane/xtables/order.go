package xtables

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// maxMoves is how often a jump is put first again because of one rule. Who goes on putting that rule before it wants it so,
// and two programs that never agree would disturb the node more than the order of their rules.
const maxMoves = 3

// Order remembers which rules of others stood behind our jumps, so that a jump that somebody has moved behind them is told
// from a rule that somebody has put before it, as is anybody's right.
type Order struct {
	// behind has the rules behind a jump when they were looked at last, and how often it was moved because of each.
	behind map[string]map[string]int
}

// NewOrder knows of no rules yet.
func NewOrder() *Order { return &Order{behind: map[string]map[string]int{}} }

// Moved are the jumps that stand behind rules before which they stood.
func (o *Order) Moved(jumps []Jump, tables map[string]Dump) []Jump {
	var moved []Jump
	for _, j := range jumps {
		rules := tables[j.Table][j.Chain]
		at := slices.Index(rules, j.text())
		if at < 0 {
			continue
		}
		key := j.Table + " " + j.Chain + j.text()
		known, passed := o.behind[key], false
		for _, rule := range rules[:at] {
			if moves, was := known[rule]; was && moves < maxMoves && !slices.Contains(rules[at+1:], rule) {
				passed = true
			}
		}
		if passed {
			moved = append(moved, j)
			continue
		}
		now := make(map[string]int, len(rules)-at-1)
		for _, rule := range rules[at+1:] {
			now[rule] = known[rule]
		}
		for rule, moves := range known {
			if moves > 0 {
				now[rule] = moves // it is remembered also while it is away
			}
		}
		o.behind[key] = now
	}
	return moved
}

// Placed notes that jumps that were missing go before all rules that were there.
func (o *Order) Placed(missing []Jump, tables map[string]Dump) {
	for _, j := range missing {
		key := j.Table + " " + j.Chain + j.text()
		now := map[string]int{}
		for _, rule := range tables[j.Table][j.Chain] {
			now[rule] = o.behind[key][rule]
		}
		for rule, moves := range o.behind[key] {
			if moves > 0 {
				now[rule] = moves
			}
		}
		o.behind[key] = now
	}
}

// Different names the jumps that are missing, stand behind rules before which they stood, or are of another layout of our
// rules.
func (o *Order) Different(prefix string, jumps []Jump, tables map[string]Dump) []string {
	var different []string
	for _, j := range Missing(jumps, tables) {
		different = append(different, j.String())
	}
	for _, j := range Superseded(prefix, jumps, tables) {
		different = append(different, "another "+j.String())
	}
	for _, j := range o.Moved(jumps, tables) {
		different = append(different, j.String()+", which stands behind others now,")
	}
	return different
}

// Restore puts jumps first again, each table in one transaction.
func (o *Order) Restore(ctx context.Context, t *Programs, moved []Jump) error {
	if len(moved) == 0 {
		return nil
	}
	scripts := map[string]*bytes.Buffer{}
	for _, j := range slices.Backward(moved) {
		if scripts[j.Table] == nil {
			scripts[j.Table] = bytes.NewBufferString("*" + j.Table + "\n")
		}
		fmt.Fprintf(scripts[j.Table], "-D %s%s\n-I %s 1%s\n", j.Chain, j.text(), j.Chain, j.text())
		known := o.behind[j.Table+" "+j.Chain+j.text()]
		for rule := range known {
			known[rule]++
		}
	}
	var script bytes.Buffer
	for _, s := range scripts {
		script.Write(s.Bytes())
		script.WriteString("COMMIT\n")
	}
	if err := t.apply(ctx, script.Bytes()); err != nil {
		return fmt.Errorf("putting the jumps to our chains first again: %w", err)
	}
	return nil
}
