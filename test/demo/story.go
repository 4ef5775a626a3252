package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// story prints what happens, and remembers what did not happen as it should.
type story struct {
	out      io.Writer
	colour   bool
	start    time.Time
	chapters int
	held     int
	broken   []string
}

func (s *story) chapter(title, text string) {
	s.chapters++
	fmt.Fprintf(s.out, "\n%s\n", s.paint("1", fmt.Sprintf("%d. %s", s.chapters, title)))
	s.say(text)
}

// say prints lines of text, indented.
func (s *story) say(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprint(s.out, "   ", line)
	}
}

// expect prints whether something is as it should be, with what was measured.
func (s *story) expect(ok bool, what, measured string, args ...any) {
	line := what + ": " + fmt.Sprintf(measured, args...)
	if !ok {
		s.broken = append(s.broken, line)
		fmt.Fprintf(s.out, "   %s %s\n", s.paint("31", "✗"), line)
		return
	}
	s.held++
	fmt.Fprintf(s.out, "   %s %s\n", s.paint("32", "✓"), line)
}

// shell runs kubectl, and prints the command line and what it wrote.
func (s *story) shell(ctx context.Context, kubectl func(context.Context, ...string) (string, error), args ...string) error {
	fmt.Fprintf(s.out, "   %s\n", s.paint("1", "$ kubectl "+strings.Join(args, " ")))
	out, err := kubectl(ctx, args...)
	if strings.TrimSpace(out) != "" {
		s.say(out)
	}
	return err
}

// table prints rows in columns.
func (s *story) table(rows [][]string) {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, "     "+strings.Join(row, "\t"))
	}
	_ = w.Flush()
}

// end prints the verdict. The error is nil if all expectations held.
func (s *story) end() error {
	took := time.Since(s.start).Seconds()
	if len(s.broken) == 0 {
		fmt.Fprintf(s.out, "\n%s\n", s.paint("32", fmt.Sprintf("All %d expectations held, in %.0f s. Nothing is left behind.", s.held, took)))
		return nil
	}
	fmt.Fprintf(s.out, "\n%s\n", s.paint("31", fmt.Sprintf("%d of %d expectations did not hold:", len(s.broken), s.held+len(s.broken))))
	for _, line := range s.broken {
		fmt.Fprintf(s.out, "   ✗ %s\n", line)
	}
	return fmt.Errorf("%d expectations did not hold", len(s.broken))
}

func (s *story) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
