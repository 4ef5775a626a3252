package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// workdirPrefix begins the names of all folders of clusters, newPrefix those that are not locked yet.
const (
	workdirPrefix = "service-proxy-cluster-"
	newPrefix     = ".new-" + workdirPrefix
)

// workdir is the folder that holds every file of a cluster. While its owner lives it is locked with flock(2).
type workdir struct {
	root string
	lock *os.File
}

// workdirBase returns the folder where folders of clusters are made: memory, if there is such a file system.
func workdirBase() string {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() {
		return memory
	}
	return os.TempDir()
}

// newWorkdir makes the folder, and removes those that killed processes left in base. It is locked before it gets the
// name that others look for, so that they never take it for one that was left.
func newWorkdir(base string) (*workdir, error) {
	if err := sweep(base); err != nil {
		return nil, err
	}
	fresh, err := os.MkdirTemp(base, newPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a folder for the cluster: %w", err)
	}
	lock, err := tryLock(fresh)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the folder of the cluster: %w", err), os.RemoveAll(fresh))
	}
	root := filepath.Join(base, workdirPrefix+strings.TrimPrefix(filepath.Base(fresh), newPrefix))
	if err := os.Rename(fresh, root); err != nil {
		return nil, errors.Join(fmt.Errorf("naming the folder of the cluster: %w", err), lock.Close(), os.RemoveAll(fresh))
	}
	d := &workdir{root: root, lock: lock}
	for _, name := range []string{"logs", "hosts", "pki"} {
		if err := os.Mkdir(d.path(name), 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("making a folder for the cluster: %w", err), d.remove())
		}
	}
	return d, nil
}

func (d *workdir) path(elements ...string) string {
	return filepath.Join(append([]string{d.root}, elements...)...)
}

// remove removes the folder and all that is in it.
func (d *workdir) remove() error {
	return errors.Join(os.RemoveAll(d.root), d.lock.Close())
}

// sweep removes the folders whose owner is gone.
func sweep(base string) error {
	left, err := filepath.Glob(filepath.Join(base, workdirPrefix+"*"))
	if err != nil {
		return fmt.Errorf("looking for folders of earlier clusters: %w", err)
	}
	for _, dir := range left {
		lock, err := tryLock(dir)
		if err != nil {
			continue // Its owner lives, or another process is sweeping it.
		}
		if err := errors.Join(os.RemoveAll(dir), lock.Close()); err != nil {
			return fmt.Errorf("removing what an earlier cluster left: %w", err)
		}
	}
	return nil
}

// tryLock locks a folder for as long as the file it returns is open. Child processes do not inherit it.
func tryLock(dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
