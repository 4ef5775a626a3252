package binaries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recipe is how programs are built, apart from their versions; it is part of what makes a built program stale.
const recipe = "CGO_ENABLED=0 -s -w"

// source returns the package a program is built from.
func source(p Program) string {
	if p == Etcd {
		return "go.etcd.io/etcd/server/v3"
	}
	return "k8s.io/kubernetes/cmd/" + string(p)
}

// Build makes the programs that are missing or stale, saying on progress what it does, and returns when all are ready
// to run. It writes one line when there is nothing to do. Two builds at the same time wait for each other.
func (c *Cache) Build(ctx context.Context, progress io.Writer, programs ...Program) error {
	if err := os.MkdirAll(c.bin, 0o755); err != nil {
		return fmt.Errorf("making the folder of built programs: %w", err)
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	var missing []Program
	for _, p := range programs {
		switch _, err := c.Find(p); {
		case errors.Is(err, ErrMissing):
			missing = append(missing, p)
		case err != nil:
			return err
		}
	}
	if len(missing) == 0 {
		_, err := fmt.Fprintf(progress, "control plane: up to date in %s\n", c.bin)
		return err
	}
	version, err := c.kubernetesVersion(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "control plane: building %s of Kubernetes %s into %s; minutes when the Go build cache is cold\n",
		join(missing), version, c.bin)
	start := time.Now()
	for _, p := range missing {
		began := time.Now()
		fmt.Fprintf(progress, "control plane: building %s ...\n", p)
		if err := c.build(ctx, progress, p, version); err != nil {
			return err
		}
		fmt.Fprintf(progress, "control plane: built %s in %s\n", p, time.Since(began).Round(time.Second))
	}
	_, err = fmt.Fprintf(progress, "control plane: done in %s\n", time.Since(start).Round(time.Second))
	return err
}

// build makes one program. The stamp goes first and comes last, so that a build that is cut short leaves a program
// that counts as missing; and the file is renamed into place, so that one that runs is not written to.
func (c *Cache) build(ctx context.Context, progress io.Writer, p Program, version string) error {
	path := c.path(p)
	if err := os.RemoveAll(path + ".stamp"); err != nil {
		return fmt.Errorf("building %s: %w", p, err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", linkFlags(version), "-o", path+".new", source(p))
	cmd.Dir = c.module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s: %w", p, errors.Join(err, os.RemoveAll(path+".new")))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("building %s: %w", p, err)
	}
	if err := os.WriteFile(path+".stamp", []byte(c.key+"\n"), 0o644); err != nil {
		return fmt.Errorf("building %s: %w", p, err)
	}
	return nil
}

// linkFlags leaves out symbols and stamps the version where Kubernetes looks for it, as its own build does.
func linkFlags(version string) string {
	flags := []string{"-s", "-w"}
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			"-X", pkg+".gitVersion="+version,
			"-X", pkg+".gitMajor="+parts[0],
			"-X", pkg+".gitMinor="+parts[1])
	}
	return strings.Join(flags, " ")
}

// kubernetesVersion returns the pinned version, as vMAJOR.MINOR.PATCH.
func (c *Cache) kubernetesVersion(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	cmd.Dir = c.module
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking go for the pinned version of Kubernetes: %w", err)
	}
	version := strings.TrimSpace(string(out))
	if strings.Count(version, ".") < 2 {
		return "", fmt.Errorf("the pinned version of Kubernetes is %q, not vMAJOR.MINOR.PATCH", version)
	}
	return version, nil
}

// lock waits until no other process builds into the same folder.
func (c *Cache) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(c.bin, ".lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the folder of built programs: %w", err)
	}
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		switch err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { _ = file.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, fmt.Errorf("locking the folder of built programs: %w", errors.Join(err, file.Close()))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another build: %w", errors.Join(ctx.Err(), file.Close()))
		case <-retry.C:
		}
	}
}

func join(programs []Program) string {
	names := make([]string, len(programs))
	for i, p := range programs {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}
