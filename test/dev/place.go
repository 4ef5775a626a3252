package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is the folder of the dev cluster in a copy of the repository.
type place struct{ root, dir string }

func newPlace(root string) place { return place{root: root, dir: filepath.Join(root, ".cache", "dev")} }

func (p place) log() string        { return filepath.Join(p.dir, "log") }
func (p place) logs() string       { return filepath.Join(p.dir, "logs") }
func (p place) pid() string        { return filepath.Join(p.dir, "pid") }
func (p place) kubeconfig() string { return filepath.Join(p.dir, "kubeconfig") }

// socket is a name in the abstract namespace (unix(7)): it needs no file, and goes with its owner.
func (p place) socket() string {
	absolute, err := filepath.Abs(p.dir)
	if err != nil {
		absolute = p.dir
	}
	return "@service-proxy-dev" + absolute
}

// errRunning is the error of claim when there is a dev cluster already.
var errRunning = errors.New("the dev cluster is running; end it with: make dev-down")

// errNotRunning is the error of everything that needs a dev cluster.
var errNotRunning = errors.New("the dev cluster is not running; start it with: make dev")

// claim makes the calling process the owner of the place until it ends, by a lock on the file with its pid. So a pid
// without an owner is never taken for one.
func (p place) claim() (release func(), err error) {
	file, err := os.OpenFile(p.pid(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("claiming %s: %w", p.dir, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(errRunning, file.Close())
	}
	if err := errors.Join(file.Truncate(0), writeTo(file, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("writing %s: %w", p.pid(), err), file.Close())
	}
	return func() { _ = errors.Join(os.Remove(p.pid()), file.Close()) }, nil
}

func writeTo(file *os.File, text string) error {
	_, err := file.WriteString(text)
	return err
}

// owner returns the process that owns the place.
func (p place) owner() (pid int, err error) {
	file, err := os.Open(p.pid())
	if errors.Is(err, os.ErrNotExist) {
		return 0, errNotRunning
	}
	if err != nil {
		return 0, fmt.Errorf("looking for the dev cluster: %w", err)
	}
	defer func() { _ = file.Close() }()
	if unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0, errNotRunning // what it left is of no use to anybody
	}
	text, err := os.ReadFile(p.pid())
	if err != nil {
		return 0, fmt.Errorf("looking for the dev cluster: %w", err)
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("looking for the dev cluster: reading %s: %w", p.pid(), err)
	}
	return pid, nil
}
