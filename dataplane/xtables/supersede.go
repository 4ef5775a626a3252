package xtables

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// Superseded are rules of others' chains that lead to chains of ours and are none of the jumps: those of another layout of
// our rules, as an agent of another version wrote it.
func Superseded(prefix string, jumps []Jump, tables map[string]Dump) []Jump {
	known := map[string]bool{}
	for _, j := range jumps {
		known[j.Table+" "+j.Chain+j.text()] = true
	}
	var found []Jump
	for table, dump := range tables {
		for chain, rules := range dump {
			if strings.HasPrefix(chain, prefix) {
				continue
			}
			for _, rule := range rules {
				if jumpsTo(prefix, rule) && !known[table+" "+chain+rule] {
					found = append(found, Jump{Table: table, Chain: chain, Rule: []string{strings.TrimPrefix(rule, " ")}})
				}
			}
		}
	}
	return found
}

// Supersede writes what is pending in tables and the jumps that are missing, but removes no chain yet; and then the jumps
// of another layout, so that there is always one that leads packets on. Its chains can go after that.
func (t *Programs) Supersede(ctx context.Context, superseded, missing []Jump, tables ...*Table) (Written, error) {
	for _, table := range tables {
		for name, chain := range table.pending {
			if chain == nil {
				delete(table.pending, name)
			}
		}
	}
	w, err := t.Write(ctx, missing, tables...)
	if err != nil {
		return w, err
	}
	scripts := map[string]*bytes.Buffer{}
	for _, j := range superseded {
		if scripts[j.Table] == nil {
			scripts[j.Table] = bytes.NewBufferString("*" + j.Table + "\n")
		}
		fmt.Fprintf(scripts[j.Table], "-D %s %s\n", j.Chain, j.Rule[0])
	}
	var script bytes.Buffer
	for _, s := range scripts {
		script.Write(s.Bytes())
		script.WriteString("COMMIT\n")
	}
	if err := t.apply(ctx, script.Bytes()); err != nil {
		return w, fmt.Errorf("removing the jumps of another layout of rules: %w", err)
	}
	w.Jumps += len(superseded)
	return w, nil
}
