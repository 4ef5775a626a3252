package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// recorder stands before the programs of iptables and notes, while it is on, each process, its system calls and what it
// reads. It takes far more time than the programs do, so nothing is timed with it on.
type recorder struct{ dir string }

// recording is what processes did between start and stop.
type recording struct{ processes, syscalls, bytes int }

// newRecorder stands before programs, by the names that they are called by; each leads to a program of the machine.
func newRecorder(tb testing.TB, programs map[string]string) *recorder {
	tb.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		tb.Fatalf("looking for strace: %v; install the package strace", err)
	}
	r := &recorder{dir: tb.TempDir()}
	if err := os.Mkdir(r.bin(), 0o755); err != nil {
		tb.Fatal(err)
	}
	for name, target := range programs {
		path, err := exec.LookPath(target)
		if err != nil {
			tb.Fatalf("looking for %s: %v; install the package iptables", target, err)
		}
		script := fmt.Sprintf(`#!/bin/sh
test -e %[1]s/on || exec %[2]s "$@"
run="%[3]s --follow-forks --summary-only --summary-columns=calls,name --output=%[1]s/calls.$$ %[2]s"
case %[4]s in
*-restore) tee %[1]s/bytes.$$ | $run "$@" ;;
*) exec $run "$@" ;;
esac
`, r.dir, path, strace, name)
		if err := os.WriteFile(filepath.Join(r.bin(), name), []byte(script), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

func (r *recorder) bin() string { return filepath.Join(r.dir, "bin") }

// path is a value of $PATH that leads through the recorder.
func (r *recorder) path() string { return r.bin() + string(os.PathListSeparator) + os.Getenv("PATH") }

func (r *recorder) start(tb testing.TB) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "on"), nil, 0o644); err != nil {
		tb.Fatal(err)
	}
}

func (r *recorder) stop(tb testing.TB) recording {
	tb.Helper()
	if err := os.Remove(filepath.Join(r.dir, "on")); err != nil {
		tb.Fatal(err)
	}
	var total recording
	for _, name := range r.files(tb, "calls.*") {
		total.processes++
		total.syscalls += countCalls(tb, name)
	}
	for _, name := range r.files(tb, "bytes.*") {
		info, err := os.Stat(name)
		if err != nil {
			tb.Fatal(err)
		}
		total.bytes += int(info.Size())
	}
	for _, name := range append(r.files(tb, "calls.*"), r.files(tb, "bytes.*")...) {
		if err := os.Remove(name); err != nil {
			tb.Fatal(err)
		}
	}
	return total
}

func (r *recorder) files(tb testing.TB, pattern string) []string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(r.dir, pattern))
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

// countCalls reads the last line of a summary of strace: the number of all calls, and "total".
func countCalls(tb testing.TB, path string) int {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	fields := strings.Fields(string(lines[len(lines)-1]))
	if len(fields) != 2 || fields[1] != "total" {
		tb.Fatalf("strace wrote no summary to %s:\n%s", path, text)
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
