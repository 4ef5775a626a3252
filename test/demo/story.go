package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// story prints what happens, and remembers what did not happen as it should.
type story struct {
	out io.Writer
	told
}

// told is what whoever goes on with a story has to know.
type told struct {
	Start    time.Time
	Colour   bool
	Chapters int
	Held     int
	Broken   []string
}

func newStory(out *os.File) *story {
	info, err := out.Stat()
	isTerminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &story{out: out, told: told{Start: time.Now(), Colour: isTerminal}}
}

// storyVariable holds what was told by the process that started this one.
const storyVariable = "SERVICE_PROXY_DEMO_STORY"

// handOver leaves the story to a child of this process.
func (s *story) handOver() error {
	text, err := json.Marshal(s.told)
	if err == nil {
		err = os.Setenv(storyVariable, string(text))
	}
	if err != nil {
		return fmt.Errorf("handing the story over: %w", err)
	}
	return nil
}

// takeOver goes on with the story that the parent of this process has handed over.
func takeOver(out io.Writer) (*story, error) {
	s := &story{out: out}
	if err := json.Unmarshal([]byte(os.Getenv(storyVariable)), &s.told); err != nil {
		return nil, fmt.Errorf("taking the story over: reading $%s: %w", storyVariable, err)
	}
	return s, nil
}

func (s *story) chapter(title, text string) {
	s.Chapters++
	fmt.Fprintf(s.out, "\n%s\n", s.paint("1", fmt.Sprintf("%d. %s", s.Chapters, title)))
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
	line := strings.ReplaceAll(what+": "+fmt.Sprintf(measured, args...), "\n", "\n     ")
	if !ok {
		s.Broken = append(s.Broken, line)
		fmt.Fprintf(s.out, "   %s %s\n", s.paint("31", "✗"), line)
		return
	}
	s.Held++
	fmt.Fprintf(s.out, "   %s %s\n", s.paint("32", "✓"), line)
}

// shell runs kubectl, and prints the command line and what it wrote.
func (s *story) shell(ctx context.Context, kubectl func(context.Context, ...string) (string, error), args ...string) error {
	words := []string{"$ kubectl"}
	for _, word := range args {
		if strings.ContainsAny(word, `{}"`) {
			word = "'" + word + "'"
		}
		words = append(words, word)
	}
	fmt.Fprintf(s.out, "   %s\n", s.paint("1", strings.Join(words, " ")))
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

// end prints the verdict, and returns the status to exit with: 0 if all expectations held.
func (s *story) end() int {
	if len(s.Broken) == 0 {
		took := time.Since(s.Start).Seconds()
		fmt.Fprintf(s.out, "\n%s\n", s.paint("32", fmt.Sprintf("All %d expectations held, in %.0f s.", s.Held, took)))
		return 0
	}
	fmt.Fprintf(s.out, "\n%s\n", s.paint("31", fmt.Sprintf("%d of %d expectations did not hold:", len(s.Broken), s.Held+len(s.Broken))))
	for _, line := range s.Broken {
		fmt.Fprintf(s.out, "   ✗ %s\n", line)
	}
	return 1
}

func (s *story) paint(code, text string) string {
	if !s.Colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
