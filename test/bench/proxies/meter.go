package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// meter is a control group of a process and all its children: CPU time and memory that they use and the kernel uses for
// them. It works with both versions of control groups (cgroups(7)).
type meter struct {
	cpu, memory string // folders; the same in version 2
	unified     bool
}

func newMeter(name string) (*meter, error) {
	m := &meter{cpu: "/sys/fs/cgroup/cpuacct/" + name, memory: "/sys/fs/cgroup/memory/" + name}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		m = &meter{cpu: "/sys/fs/cgroup/" + name, memory: "/sys/fs/cgroup/" + name, unified: true}
	}
	for _, folder := range []string{m.cpu, m.memory} {
		if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("making a control group: %w", err)
		}
	}
	return m, nil
}

// command wraps a program so that it joins before it starts.
func (m *meter) command(program string, args []string) (string, []string) {
	script := fmt.Sprintf(`echo $$ >%s/cgroup.procs && echo $$ >%s/cgroup.procs && exec "$@"`, m.cpu, m.memory)
	return "sh", append([]string{"-c", script, "sh", program}, args...)
}

// used is the CPU time so far.
func (m *meter) used() (time.Duration, error) {
	if !m.unified {
		n, err := readNumber(filepath.Join(m.cpu, "cpuacct.usage"))
		return time.Duration(n), err
	}
	n, err := readField(filepath.Join(m.cpu, "cpu.stat"), "usage_usec")
	return time.Duration(n) * time.Microsecond, err
}

// peak is the most memory that was in use at once, the kernel's included, in bytes.
func (m *meter) peak() (float64, error) {
	name := "memory.max_usage_in_bytes"
	if m.unified {
		name = "memory.peak"
	}
	n, err := readNumber(filepath.Join(m.memory, name))
	return float64(n), err
}

// kernel is the memory that the kernel uses for them, in bytes. When they are gone it is that of their rules.
func (m *meter) kernel() (float64, error) {
	if !m.unified {
		n, err := readNumber(filepath.Join(m.memory, "memory.kmem.usage_in_bytes"))
		return float64(n), err
	}
	n, err := readField(filepath.Join(m.memory, "memory.stat"), "kernel")
	return float64(n), err
}

func (m *meter) close() error {
	err := os.Remove(m.cpu)
	if m.memory != m.cpu {
		err = errors.Join(err, os.Remove(m.memory))
	}
	return err
}

func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// readField reads a file of lines that have a name and a number each.
func readField(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && strings.TrimSuffix(fields[0], ":") == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
