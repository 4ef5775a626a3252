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

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
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

// Read lists every table that there is, by name. One that nobody has used yet is not there, and empty. Rules of others may have a
// text that says nothing, where they are read by netlink.
func (t *Programs) Read(ctx context.Context) (map[string]Dump, error) {
	if t.Direct {
		// The program knows what netlink cannot put into words.
		if rules, err := t.reader.Read(ctx); err == nil {
			tables := make(map[string]Dump, len(rules))
			for table, chains := range rules {
				tables[table] = chains
			}
			return tables, nil
		}
	}
	out, err := exec.CommandContext(ctx, t.save).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("running %s: %w: %s", t.save, err, complaint(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("running %s: %w", t.save, err)
	}
	return parseSave(out), nil
}

// ReadAhead reads every table for the next Read, where that can be told afterwards whether they have changed since. What cannot be
// read now is read then.
func (t *Tools) ReadAhead(ctx context.Context) {
	for _, f := range t.Families {
		if f.Direct {
			_ = f.reader.ReadAhead(ctx) // Read says what is wrong
		}
	}
}

// Write gives the kernel what is pending in tables, and the jumps that are missing. Where it can be, that is done by netlink
// and in one transaction; otherwise by iptables-restore, in the order of the tables and each in one transaction. After an
// error a table before the one that failed may have been written.
func (t *Programs) Write(ctx context.Context, missing []Jump, tables ...*Table) (Written, error) {
	var w Written
	for _, table := range tables {
		w.Chains += len(table.pending)
		for _, j := range missing {
			if j.Table == table.name {
				w.Jumps++
			}
		}
	}
	if w == (Written{}) {
		return w, nil
	}
	var err, refused error
	if t.Direct {
		w.Bytes, refused = t.direct(ctx, missing, tables...)
	}
	if !t.Direct || refused != nil {
		w.Programs = 1
		w.Bytes, err = t.restored(ctx, missing, tables)
	}
	if err != nil {
		if refused != nil {
			err = fmt.Errorf("%w (%w)", err, refused)
		}
		return Written{Programs: w.Programs}, err
	}
	for _, table := range tables {
		table.written()
	}
	return w, nil
}

// Settle waits until the kernel has dropped what rules referred to that were replaced or removed, such as sets.
func (t *Programs) Settle() error {
	// To close what they were written by waits for that; the programs have done so when they end.
	if err := t.writer.Close(); err != nil {
		return fmt.Errorf("waiting for rules to go: %w", err)
	}
	return nil
}

// restored writes by iptables-restore, and returns how many bytes it was given.
func (t *Programs) restored(ctx context.Context, missing []Jump, tables []*Table) (int, error) {
	var script bytes.Buffer
	for _, table := range tables {
		var body bytes.Buffer
		table.script(&body)
		for _, j := range missing {
			if j.Table == table.name {
				// Each goes first in its chain, so that the last of several for one chain comes first.
				body.WriteString("-I " + j.Chain + " 1" + j.text() + "\n")
			}
		}
		if body.Len() > 0 {
			fmt.Fprintf(&script, "*%s\n%sCOMMIT\n", table.name, body.String())
		}
	}
	return script.Len(), t.apply(ctx, script.Bytes())
}

// Missing are the jumps that were not among what was read.
func Missing(jumps []Jump, tables map[string]Dump) []Jump {
	return slices.DeleteFunc(slices.Clone(jumps), func(j Jump) bool { return slices.Contains(tables[j.Table][j.Chain], j.text()) })
}

// Written says what was done to the kernel.
type Written struct {
	// Chains is the number of chains that were written or removed.
	Chains int
	// Bytes is the size of what was given to the kernel, or to iptables-restore.
	Bytes int
	// Programs is how often iptables-restore was started, because netlink cannot be used or could not write what was to be
	// written.
	Programs int
	// Jumps is the number of jumps to our chains that were missing.
	Jumps int
}

// Add adds what another call has done.
func (w *Written) Add(v Written) {
	w.Chains += v.Chains
	w.Bytes += v.Bytes
	w.Programs += v.Programs
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

// text is the jump as iptables-save prints it.
func (j Jump) text() string {
	var b strings.Builder
	for i, word := range j.Rule {
		b.WriteByte(' ')
		if i > 0 && j.Rule[i-1] == "--comment" {
			word = nft.Quote(word)
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
// order. Afterwards nothing that they referred to, such as a set, is in use by them any more.
func (t *Programs) Remove(ctx context.Context, prefix string, tables ...string) error {
	if t.backend == NFT { // which knows without listing rules whether there is anything
		if held, err := t.holds(ctx, prefix); err != nil {
			return err
		} else if !held {
			return t.Settle()
		}
	}
	dumps, err := t.Read(ctx)
	if err != nil {
		return err
	}
	var script bytes.Buffer
	var owned []*Table
	for _, table := range tables {
		var jumps bytes.Buffer
		for chain, rules := range dumps[table] {
			for _, rule := range rules {
				if !strings.HasPrefix(chain, prefix) && jumpsTo(prefix, rule) {
					jumps.WriteString("-D " + chain + rule + "\n")
				}
			}
		}
		if jumps.Len() > 0 {
			fmt.Fprintf(&script, "*%s\n%sCOMMIT\n", table, jumps.String())
		}
		s := NewTable(table, prefix)
		s.Found(dumps[table])
		s.DropAll()
		owned = append(owned, s)
	}
	if script.Len() > 0 {
		// In transactions of their own: iptables-nft refuses to remove a chain that was jumped to when it began.
		if err := t.apply(ctx, script.Bytes()); err != nil {
			return fmt.Errorf("removing the jumps to chains %s*: %w", prefix, err)
		}
	}
	if _, err := t.Write(ctx, nil, owned...); err != nil {
		return fmt.Errorf("removing the chains %s*: %w", prefix, err)
	}
	return t.Settle()
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
