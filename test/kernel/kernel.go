package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// HasIPVS says whether the running kernel has IPVS, and loads its module if that is what it takes.
func HasIPVS() bool {
	const servers = "/proc/net/ip_vs"
	if _, err := os.Stat(servers); err == nil {
		return true
	}
	_ = exec.Command("modprobe", "ip_vs").Run() // Whether it helped is seen below.
	_, err := os.Stat(servers)
	return err == nil
}

// Program is a program to run on a kernel with IPVS. It has no standard input.
type Program struct {
	// Args are its path, or its name to be looked up in $PATH, and its arguments.
	Args []string
	// Env is its whole environment, as NAME=VALUE; that of this process if nil.
	Env []string
	// Dir is its working directory; that of this process if empty.
	Dir string
	// Stdout and Stderr get what it writes, as it writes it; nobody does if nil.
	Stdout, Stderr io.Writer
	// Reach are TCP addresses of this process, as IP:port, that the program can connect to. It finds them with Reached.
	Reach []string
}

// Run runs a program on a kernel with IPVS to its end, and returns its exit status, 128 and the signal's number if a
// signal ended it. The error says why there is no status: the program could not be started, or the context was done,
// which ends the program with SIGKILL. Whatever happens to this process, the program does not outlive it.
func Run(ctx context.Context, p Program) (status int, err error) {
	if p.Env == nil {
		p.Env = os.Environ()
	}
	if p.Dir == "" {
		if p.Dir, err = os.Getwd(); err != nil {
			return 0, fmt.Errorf("running %s: %w", p.Args[0], err)
		}
	}
	if HasIPVS() {
		status, err = runHere(ctx, p)
	} else {
		status, err = runInside(ctx, p)
	}
	if err != nil {
		return 0, fmt.Errorf("running %s on a kernel with IPVS: %w", p.Args[0], errors.Join(ctx.Err(), err))
	}
	return status, nil
}

// outputGrace is how long processes that a program leaves behind may keep its output open, as in init.sh.
const outputGrace = 5 * time.Second

// runHere runs a program on the running kernel.
func runHere(ctx context.Context, p Program) (int, error) {
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.Env, p.Dir, p.Stdout, p.Stderr
	// A process group of its own, to end all of it: nothing inside gets Ctrl-C either.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputGrace
	err := onLastingThread(cmd.Run)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		if state, ok := exit.Sys().(syscall.WaitStatus); ok && state.Signaled() {
			return 128 + int(state.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		return 0, nil
	}
	return 0, err
}

// onLastingThread runs f on a thread of its own, which ends with f. A child that is to get a signal when its parent dies
// gets it when the thread that started it ends (PR_SET_PDEATHSIG(2const)).
func onLastingThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // And never unlocked: f may move the thread to another network namespace.
		result <- f()
	}()
	return <-result
}
