package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// errStopped is the error of whatever needs a cluster that has been stopped.
var errStopped = errors.New("the cluster is stopped")

// stopGrace is how long a process may take to end after SIGTERM.
const stopGrace = 5 * time.Second

// ProcessSpec is a program to start on a host.
type ProcessSpec struct {
	// Path is the program: a path, or a name that is looked up in $PATH.
	Path string
	// Args are its arguments, without the name of the program.
	Args []string
	// Env is added to the environment of this process, as NAME=VALUE.
	Env []string
	// Stdin is its standard input; none if nil.
	Stdin io.Reader
	// Name tells processes of a host apart, in errors and in the name of the log file. By default the name of the
	// program.
	Name string
}

// Process is a program that runs on a host. Its output goes to a log file.
type Process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the process has ended and returns how: nil for exit status 0, an error with the end of its log for
// any other, and the context's error if that is done first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w; its last lines:\n%s", p.name, p.err, p.Tail(20))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to end: %w", p.name, ctx.Err())
	}
}

// Signal sends a signal to the process; to one that has ended it sends nothing and returns os.ErrProcessDone.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("sending %s to %s: %w", signal, p.name, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the process with SIGTERM, and with SIGKILL if it is still there after five seconds or when ctx is done. It
// returns when the process is gone; the error says that it had to be killed.
func (p *Process) Stop(ctx context.Context) error { return p.stop(ctx, stopGrace) }

func (p *Process) stop(ctx context.Context, grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s did not end after SIGTERM and was killed", p.name)
	}
}

// LogFile returns the path of the file that holds what the process wrote, and what processes of the same name wrote on
// the same host before it.
func (p *Process) LogFile() string { return p.log }

// Tail returns the last lines of the log file, at most n.
func (p *Process) Tail(n int) string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// launcher starts child processes from a thread of its own. A child gets SIGKILL when the thread that started it ends
// (PR_SET_PDEATHSIG(2const) speaks of the thread, not of the process), so that thread must live as long as children are to
// live, and no longer.
type launcher struct {
	requests chan launch
	closed   chan struct{}
}

type launch struct {
	cmd    *exec.Cmd
	where  *namespace // nil for the namespace of this process
	result chan error
}

func newLauncher() *launcher {
	l := &launcher{requests: make(chan launch), closed: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // And never unlocked: the thread ends with the goroutine.
		for {
			select {
			case request := <-l.requests:
				request.result <- request.start()
			case <-l.closed:
				return
			}
		}
	}()
	return l
}

// close ends the thread; children that still run are killed. Nothing can be started afterwards. It is called once.
func (l *launcher) close() { close(l.closed) }

// start starts a command in a namespace, as leader of a process group of its own: Ctrl-C on the terminal is for the
// process that holds the cluster to act on.
func (l *launcher) start(cmd *exec.Cmd, where *namespace) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	request := launch{cmd: cmd, where: where, result: make(chan error, 1)}
	select {
	case l.requests <- request:
		return <-request.result
	case <-l.closed:
		return errStopped
	}
}

func (r launch) start() error {
	if r.where == nil {
		return r.cmd.Start()
	}
	home, err := namespaceOfThread()
	if err != nil {
		return err
	}
	defer home.close()
	if err := r.where.enter(); err != nil {
		return err
	}
	return errors.Join(r.cmd.Start(), home.enter())
}

// startProcess starts a process whose output is appended to a log file.
func (l *launcher) startProcess(spec ProcessSpec, where *namespace, logFile string, env []string) (*Process, error) {
	if spec.Name == "" {
		spec.Name = filepath.Base(spec.Path)
	}
	output, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer func() { _ = output.Close() }()
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = append(append(os.Environ(), env...), spec.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = spec.Stdin, output, output
	if err := l.start(cmd, where); err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	p := &Process{name: spec.Name, log: logFile, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// outputGrace is how long what a program wrote may take to arrive after its end: on a busy machine, seconds; if a program
// that it started holds on to its output, for ever.
const outputGrace = 30 * time.Second

// run runs a program to its end and returns what it wrote to standard output; the error of a failure ends with what it
// wrote to standard error.
func (l *launcher) run(ctx context.Context, spec ProcessSpec, where *namespace, env []string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, spec.Path, spec.Args...)
	cmd.Env = append(append(os.Environ(), env...), spec.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = spec.Stdin, &stdout, &stderr
	cmd.WaitDelay = outputGrace
	err := l.start(cmd, where)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("running %s %s: %w: %s",
			spec.Path, strings.Join(spec.Args, " "), errors.Join(err, ctx.Err()), strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
