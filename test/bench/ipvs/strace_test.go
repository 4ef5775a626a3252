package ipvs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// trace is what a process, and all that it started, sent to the kernel by netlink, and which programs it started.
type trace struct{ messages, sends, programs int }

// traced runs f with strace attached to a process. It makes the process several times slower, so nothing is timed with it.
func traced(b *testing.B, pid int, f func()) trace {
	b.Helper()
	path := filepath.Join(b.TempDir(), "trace")
	cmd := exec.Command("strace", "--follow-forks", "--trace=sendto,sendmsg,execve", "--no-abbrev", "--string-limit=65536",
		"--output="+path, "--attach="+strconv.Itoa(pid))
	said, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("starting strace: %v; install the package strace", err)
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); !strings.Contains(line, "attached") {
		b.Fatalf("strace did not attach to process %d: %q, %v", pid, line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	f()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		b.Fatal(err)
	}
	_ = cmd.Wait() // It ends by the signal, when it has let go of the process.
	t, err := readTrace(path)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func readTrace(path string) (t trace, err error) {
	file, err := os.Open(path)
	if err != nil {
		return trace{}, fmt.Errorf("reading what strace wrote: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadString('\n')
		t.add(line)
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return trace{}, fmt.Errorf("reading what strace wrote: %w", err)
		}
	}
}

// add counts a line. What a send holds is in the line that begins it, also if another process interrupts the line.
func (t *trace) add(line string) {
	messages := strings.Count(line, "nlmsg_len=")
	switch {
	case strings.Contains(line, " execve(") && !strings.Contains(line, "ENOENT"):
		t.programs++
	case messages > 0:
		t.sends++
		t.messages += messages
	}
}
