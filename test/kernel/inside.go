package kernel

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

//go:embed init.sh
var initScript string

// ErrMissing is the error of running a program where there is neither IPVS nor user-mode Linux.
var ErrMissing = errors.New("the running kernel has no ip_vs, and linux.uml is not installed; run: make deps")

// commandLine is what the kernel is told, see `linux.uml --help`.
func commandLine(job string) []string {
	return []string{
		"mem=2G", // of which it takes what it uses
		"rootfstype=hostfs", "rootflags=/", "rw",
		"init=" + filepath.Join(job, "init.sh"),
		"uml_dir=" + job, "umid=machine",
		// What the kernel says goes to standard error, and the serial lines to the pipes.
		"con=null", "con0=null,fd:2", "quiet",
		"ssl=null", "ssl0=null,fd:3", "ssl1=null,fd:4", "ssl2=null,fd:5",
		// Measuring how best to compute checksums of disk arrays takes a second, and nobody wants old pseudo-terminals.
		"initcall_blacklist=raid6_select_algo", "pty.legacy_count=0",
	}
}

// runInside runs a program in a virtual machine.
func runInside(ctx context.Context, p Program) (status int, err error) {
	path, err := exec.LookPath("linux.uml")
	if err != nil {
		return 0, ErrMissing
	}
	err = onLastingThread(func() (err error) {
		var network []string
		if len(p.Reach) > 0 {
			n, err := newNetwork(p.Reach)
			if err != nil {
				return err
			}
			defer n.close()
			p.Env, network = slices.Concat(p.Env, []string{n.env()}), card()
		}
		status, err = boot(ctx, path, network, p)
		return err
	})
	return status, err
}

// boot starts a virtual machine from the calling thread and returns when it has ended.
func boot(ctx context.Context, path string, more []string, p Program) (int, error) {
	job, err := newJob(p)
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(job) }()
	var status, log strings.Builder
	streams, err := openStreams(orNobody(p.Stdout), orNobody(p.Stderr), &status)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, path, append(commandLine(job), more...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &log, &log, streams.files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Every process inside is a process of this machine too. In a namespace of their own they all end with the first.
		Cloneflags: syscall.CLONE_NEWPID,
		Setsid:     true, // Ctrl-C is for the process that waits for the program.
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Start()
	streams.closeFiles()
	if err != nil {
		return 0, errors.Join(fmt.Errorf("starting user-mode Linux (it needs root): %w", err), streams.wait())
	}
	err = errors.Join(cmd.Wait(), streams.wait())
	if ctx.Err() != nil {
		return 0, err
	}
	number, noStatus := strconv.Atoi(strings.TrimSpace(status.String()))
	if noStatus != nil {
		return 0, errors.Join(fmt.Errorf("user-mode Linux ended before the program did; its last lines:\n%s", tail(log.String())), err)
	}
	return number, nil
}

func orNobody(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// tail returns the end of what the kernel said.
func tail(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// newJob makes a folder with what the first process inside needs. That process removes it.
func newJob(p Program) (string, error) {
	job, err := os.MkdirTemp("", "service-proxy-kernel-")
	if err != nil {
		return "", fmt.Errorf("making a folder for user-mode Linux: %w", err)
	}
	for name, content := range map[string]string{"init.sh": initScript, "program.sh": script(p)} {
		if err := os.WriteFile(filepath.Join(job, name), []byte(content), 0o700); err != nil {
			return "", errors.Join(fmt.Errorf("telling user-mode Linux what to run: %w", err), os.RemoveAll(job))
		}
	}
	return job, nil
}

// script returns a function of the shell that becomes the program.
func script(p Program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "program() {\n  cd %s || exit\n  exec env -i", quote(p.Dir))
	for _, word := range slices.Concat(p.Env, []string{"TMPDIR=/dev/shm", "MODPROBE_OPTIONS=-d /run"}, p.Args) {
		b.WriteString(" " + quote(word))
	}
	b.WriteString("\n}\n")
	return b.String()
}

// quote writes a word for the shell.
func quote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// streams are pipes out of a child process.
type streams struct {
	files   []*os.File // the ends of the child
	readers []*os.File
	copies  chan error
}

// openStreams makes a pipe to each of the writers.
func openStreams(writers ...io.Writer) (*streams, error) {
	s := &streams{copies: make(chan error, len(writers))}
	for _, to := range writers {
		from, file, err := os.Pipe()
		if err != nil {
			s.closeFiles()
			return nil, errors.Join(fmt.Errorf("making a pipe: %w", err), s.wait())
		}
		s.files, s.readers = append(s.files, file), append(s.readers, from)
		go func() {
			_, err := io.Copy(to, from)
			if err != nil {
				_, _ = io.Copy(io.Discard, from) // Whoever writes shall not wait for a reader that is gone.
			}
			s.copies <- err
		}()
	}
	return s, nil
}

// closeFiles closes the ends of the child here.
func (s *streams) closeFiles() {
	for _, file := range s.files {
		_ = file.Close()
	}
}

// wait returns when everything has been copied.
func (s *streams) wait() error {
	var failures []error
	for range s.readers {
		failures = append(failures, <-s.copies)
	}
	for _, reader := range s.readers {
		failures = append(failures, reader.Close())
	}
	return errors.Join(failures...)
}
