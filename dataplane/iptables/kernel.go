package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// apply gives a script to iptables-restore. Each table in it is written in one transaction; a table before one that
// fails has been written.
func (t *tools) apply(ctx context.Context, script []byte) error {
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

// read lists one table.
func (t *tools) read(ctx context.Context, table string) (dump, error) {
	out, err := exec.CommandContext(ctx, t.save, "-t", table).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("running %s -t %s: %w: %s", t.save, table, err, complaint(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("running %s -t %s: %w", t.save, table, err)
	}
	return parseSave(out), nil
}

// install makes the jumps that are missing from what was read, each first in its chain. Returns how many there were.
func (t *tools) install(tables map[string]dump) (int, error) {
	installed := 0
	for _, j := range jumps() {
		if tables[j.table].has(j) {
			continue
		}
		if err := t.command.Insert(j.table, j.chain, 1, j.rule...); err != nil {
			return installed, fmt.Errorf("inserting a jump to our chains into %s of table %s: %w", j.chain, j.table, err)
		}
		installed++
	}
	return installed, nil
}

func (d dump) has(j jump) bool {
	for _, rule := range d[j.chain] {
		if rule == j.text() {
			return true
		}
	}
	return false
}

// text is the jump as iptables-save prints it.
func (j jump) text() string {
	var b strings.Builder
	for i, word := range j.rule {
		b.WriteByte(' ')
		if i > 0 && j.rule[i-1] == "--comment" {
			word = quote(word)
		}
		b.WriteString(word)
	}
	return b.String()
}

// Cleanup removes every jump and chain that this package ever made, with both backends, and nothing else.
func Cleanup(ctx context.Context) error {
	var errs []error
	for _, backend := range []Backend{NFT, Legacy} {
		for _, f := range families() {
			t, err := open(ctx, backend, f)
			if err != nil {
				// What cannot be opened was not used.
				continue
			}
			errs = append(errs, t.cleanup(ctx))
		}
	}
	for _, f := range families() {
		s := newSets(f)
		errs = append(errs, s.found(), s.remove())
	}
	return errors.Join(errs...)
}

func (t *tools) cleanup(ctx context.Context) error {
	// Table filter goes first: without its rules nothing is rejected, and translation goes on until the last moment.
	for _, table := range []string{"filter", "nat"} {
		d, err := t.read(ctx, table)
		if err != nil {
			return err
		}
		var script bytes.Buffer
		for chain, rules := range d {
			for _, rule := range rules {
				if !strings.HasPrefix(chain, prefix) && jumpsToOurs(rule) {
					script.WriteString("-D " + chain + rule + "\n")
				}
			}
		}
		s := newRuleset(table)
		s.found(d.ours())
		s.dropOthers(nil)
		if script.Len() == 0 && len(s.pending) == 0 {
			continue
		}
		if script.Len() > 0 {
			// In a transaction of its own: iptables-nft refuses to remove a chain that was jumped to when it began.
			if err := t.apply(ctx, []byte("*"+table+"\n"+script.String()+"COMMIT\n")); err != nil {
				return fmt.Errorf("removing the jumps from table %s: %w", table, err)
			}
		}
		var chains bytes.Buffer
		s.script(&chains)
		if err := t.apply(ctx, chains.Bytes()); err != nil {
			return fmt.Errorf("removing the chains from table %s: %w", table, err)
		}
	}
	return nil
}

// jumpsToOurs says whether a rule, as iptables-save prints it, ends in a jump to a chain of ours. A comment may say so too.
func jumpsToOurs(rule string) bool {
	words := strings.Fields(rule)
	if len(words) < 2 {
		return false
	}
	option, target := words[len(words)-2], words[len(words)-1]
	return (option == "-j" || option == "-g") && strings.HasPrefix(target, prefix) && !strings.HasSuffix(target, `"`)
}
