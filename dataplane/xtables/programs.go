package xtables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// apply gives a script to iptables-restore. Each table in it is written in one transaction; a table before one that
// fails has been written.
func (t *Programs) apply(ctx context.Context, script []byte) error {
	cmd := exec.CommandContext(ctx, t.restore, "-w", strconv.Itoa(lockSeconds), "--noflush")
	cmd.Stdin = bytes.NewReader(script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s: %w: %s%s", t.restore, err, complaint(stderr.String()), culprit(script, stderr.String()))
	}
	return nil
}

// complaint is what a program wrote to standard error, in one line and without the hint to read its help.
func complaint(stderr string) string {
	before, _, _ := strings.Cut(stderr, "\nTry `")
	return strings.Join(strings.Fields(before), " ")
}

// culprit is the line of a script that iptables-restore complained about, if it said which.
func culprit(script []byte, message string) string {
	_, after, found := strings.Cut(message, "line: ")
	if !found {
		_, after, found = strings.Cut(message, "line ")
	}
	if !found {
		return ""
	}
	digits := strings.TrimSpace(after)
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	number, err := strconv.Atoi(digits)
	lines := strings.Split(string(script), "\n")
	if err != nil || number < 1 || number > len(lines) {
		return ""
	}
	return fmt.Sprintf(" (%s)", lines[number-1])
}

// Read lists one table.
func (t *Programs) Read(ctx context.Context, table string) (Dump, error) {
	out, err := exec.CommandContext(ctx, t.save, "-t", table).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("running %s -t %s: %w: %s", t.save, table, err, complaint(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("running %s -t %s: %w", t.save, table, err)
	}
	return parseSave(out), nil
}

// Write gives the kernel what is pending in tables, in their order and each in one transaction. After an error a table
// before the one that failed may have been written.
func (t *Programs) Write(ctx context.Context, tables ...*Table) (Written, error) {
	var w Written
	var script bytes.Buffer
	for _, table := range tables {
		table.script(&script)
		w.Chains += len(table.pending)
	}
	w.Bytes = script.Len()
	if script.Len() > 0 {
		if err := t.apply(ctx, script.Bytes()); err != nil {
			return Written{}, err
		}
	}
	for _, table := range tables {
		table.written()
	}
	return w, nil
}

// Written says what was done to the kernel.
type Written struct {
	// Chains is the number of chains that were written or removed.
	Chains int
	// Bytes is the size of what was given to iptables-restore.
	Bytes int
	// Jumps is the number of jumps to our chains that were missing.
	Jumps int
}

// Add adds what another call has done.
func (w *Written) Add(v Written) {
	w.Chains += v.Chains
	w.Bytes += v.Bytes
	w.Jumps += v.Jumps
}

// Jump is a rule in a chain that is not ours, which leads to one that is.
type Jump struct {
	Table, Chain string
	Rule         []string
}

// NewJump is a jump with a comment, for packets that match.
func NewJump(table, from, target, comment string, match ...string) Jump {
	return Jump{table, from, append(match, "-m", "comment", "--comment", comment, "-j", target)}
}

// Install makes the jumps that are missing from what was read, each first in its chain, so that the last of several for
// one chain comes first. It returns how many there were.
func (t *Programs) Install(jumps []Jump, tables map[string]Dump) (int, error) {
	installed := 0
	for _, j := range jumps {
		if tables[j.Table].has(j) {
			continue
		}
		if err := t.command.Insert(j.Table, j.Chain, 1, j.Rule...); err != nil {
			return installed, fmt.Errorf("inserting a jump to our chains into %s of table %s: %w", j.Chain, j.Table, err)
		}
		installed++
	}
	return installed, nil
}

func (d Dump) has(j Jump) bool { return slices.Contains(d[j.Chain], j.text()) }

// text is the jump as iptables-save prints it.
func (j Jump) text() string {
	var b strings.Builder
	for i, word := range j.Rule {
		b.WriteByte(' ')
		if i > 0 && j.Rule[i-1] == "--comment" {
			word = Quote(word)
		}
		b.WriteString(word)
	}
	return b.String()
}

// Cleanup removes, with both backends, every jump to a chain whose name begins with a prefix, and every such chain.
func Cleanup(ctx context.Context, prefix string, tables ...string) error {
	var errs []error
	for _, backend := range []Backend{NFT, Legacy} {
		for _, f := range families() {
			t, err := open(ctx, backend, f)
			if err != nil {
				// What cannot be opened was not used.
				continue
			}
			errs = append(errs, t.Remove(ctx, prefix, tables...))
		}
	}
	return errors.Join(errs...)
}

// Remove removes every jump to a chain whose name begins with a prefix, and every such chain, from tables in their
// order.
func (t *Programs) Remove(ctx context.Context, prefix string, tables ...string) error {
	for _, table := range tables {
		d, err := t.Read(ctx, table)
		if err != nil {
			return err
		}
		var script bytes.Buffer
		for chain, rules := range d {
			for _, rule := range rules {
				if !strings.HasPrefix(chain, prefix) && jumpsTo(prefix, rule) {
					script.WriteString("-D " + chain + rule + "\n")
				}
			}
		}
		s := NewTable(table, prefix)
		s.Found(d)
		s.DropOthers(nil)
		if script.Len() > 0 {
			// In a transaction of its own: iptables-nft refuses to remove a chain that was jumped to when it began.
			if err := t.apply(ctx, []byte("*"+table+"\n"+script.String()+"COMMIT\n")); err != nil {
				return fmt.Errorf("removing the jumps from table %s: %w", table, err)
			}
		}
		if _, err := t.Write(ctx, s); err != nil {
			return fmt.Errorf("removing the chains from table %s: %w", table, err)
		}
	}
	return nil
}

// jumpsTo says whether a rule, as iptables-save prints it, ends in a jump to a chain with the prefix. A comment may say so
// too.
func jumpsTo(prefix, rule string) bool {
	words := strings.Fields(rule)
	if len(words) < 2 {
		return false
	}
	option, target := words[len(words)-2], words[len(words)-1]
	return (option == "-j" || option == "-g") && strings.HasPrefix(target, prefix) && !strings.HasSuffix(target, `"`)
}
