package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// up starts the background process and returns when the cluster is ready.
func up(ctx context.Context, p place) error {
	if pid, err := p.owner(); err == nil {
		fmt.Printf("==> the dev cluster is running already, as process %d\n", pid)
		printUsage(p)
		return nil
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", p.dir, err)
	}
	child, progress, err := startChild(p)
	if err != nil {
		return err
	}
	defer func() { _ = progress.Close() }()
	interrupt := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	defer interrupt()
	fmt.Println("==> starting the dev cluster; its log is", p.log())
	lines := bufio.NewScanner(progress)
	for lines.Scan() {
		if lines.Text() == ready {
			printUsage(p)
			return nil
		}
		fmt.Println("   ", lines.Text())
	}
	_ = child.Wait()
	text, _ := os.ReadFile(p.log())
	return fmt.Errorf("the dev cluster did not start; %s says:\n%s", p.log(), text)
}

// startChild starts this program again in a session of its own, where no terminal can interrupt it.
func startChild(p place) (*exec.Cmd, *os.File, error) {
	log, err := os.Create(p.log())
	if err != nil {
		return nil, nil, fmt.Errorf("making the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _ = write.Close() }()
	child := exec.Command("/proc/self/exe", serveCommand)
	child.Stdout, child.Stderr, child.ExtraFiles = log, log, []*os.File{write}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("starting the background process: %w", err), read.Close())
	}
	return child, read, nil
}

func printUsage(p place) {
	kubeconfig, err := filepath.Abs(p.kubeconfig())
	if err != nil {
		kubeconfig = p.kubeconfig()
	}
	// make adds the folder of the kubectl that it builds to $PATH, and whoever called make has no such entry.
	kubectl, built := "kubectl", filepath.Join(p.root, ".cache", "bin", "kubectl")
	if found, err := exec.LookPath(kubectl); err != nil || sameFile(found, built) {
		kubectl = built
	}
	fmt.Printf(`==> try:
    export KUBECONFIG=%[1]s
    %[2]s get spc,spn
    %[2]s get services,endpointslices,pods -o wide
    %[2]s patch spc default --type=merge -p '{"spec":{"masquerade":{"policy":"All"}}}'
    go run ./test/dev hosts
    go run ./test/dev ask client $(%[2]s get service web -o jsonpath={.spec.clusterIP}):80
    go run ./test/dev ask outside 192.168.77.11:30080
    go run ./test/dev exec a -- iptables-save -t nat
    make dev-down
`, kubeconfig, kubectl)
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// downTime is how long the cluster may take to end.
const downTime = 30 * time.Second

// down ends the dev cluster and sees that nothing of it is left.
func down(ctx context.Context, p place) error {
	pid, err := p.owner()
	if errors.Is(err, errNotRunning) {
		fmt.Println("==> there is no dev cluster to end")
		return nil
	}
	if err != nil {
		return err
	}
	target, err := os.Readlink(p.kubeconfig())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("looking for the files of the dev cluster: %w", err)
	}
	processes, err := descendants(pid)
	if err != nil {
		return err
	}
	if err := end(ctx, pid); err != nil {
		return err
	}
	var left []string
	for _, d := range processes {
		if d.alive() {
			left = append(left, fmt.Sprintf("process %d (%s)", d.pid, d.name))
		}
	}
	if target != "" {
		if _, err := os.Stat(target); err == nil {
			left = append(left, filepath.Dir(target))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("the dev cluster has ended, and left: %s", strings.Join(left, ", "))
	}
	fmt.Printf("==> the dev cluster has ended; %d processes are gone, nothing is left\n", len(processes)+1)
	return nil
}

// end sends SIGTERM to a process and waits until it is gone, by a descriptor that no other process can get meanwhile.
func end(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("finding process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		return fmt.Errorf("sending SIGTERM to process %d: %w", pid, err)
	}
	deadline := time.Now().Add(downTime)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for process %d: %w", pid, err)
		}
		if n > 0 {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("process %d is still there %s after SIGTERM", pid, downTime), ctx.Err())
}

// process is a process that cannot be taken for another: start is when it began, in ticks since boot.
type process struct {
	pid, parent int
	name, start string
}

// readProcess reads what proc_pid_stat(5) says.
func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	name, rest, ok := strings.Cut(string(text), "(")
	last := strings.LastIndex(rest, ")")
	if !ok || last < 0 {
		return process{}, fmt.Errorf("process %d: cannot read %q", pid, name)
	}
	fields := strings.Fields(rest[last+1:])
	if len(fields) < 20 {
		return process{}, fmt.Errorf("process %d: cannot read %q", pid, text)
	}
	parent, err := strconv.Atoi(fields[1])
	return process{pid: pid, parent: parent, name: rest[:last], start: fields[19]}, err
}

func (p process) alive() bool {
	now, err := readProcess(p.pid)
	return err == nil && now.start == p.start
}

// descendants lists the children of a process, and theirs.
func descendants(pid int) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	children := map[int][]process{}
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, err := readProcess(number); err == nil {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	found := children[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found, nil
}
