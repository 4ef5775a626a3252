// Package binaries finds the programs of a real Kubernetes control plane, and builds them from their Go modules.
//
// Their versions are pinned in test/cluster/controlplane/go.mod. They are built into .cache/bin at the root of the
// repository, each beside a stamp that says what it was built from, so that a changed pin makes it stale. A program
// in $KUBEBUILDER_ASSETS wins over a built one.
package binaries

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Program is a program that the control plane, or a comparison with it, needs.
type Program string

// The programs, by the names of their files.
const (
	Etcd                  Program = "etcd"
	KubeAPIServer         Program = "kube-apiserver"
	KubeControllerManager Program = "kube-controller-manager"
	Kubectl               Program = "kubectl"
	KubeProxy             Program = "kube-proxy"
)

// ControlPlane returns the programs that a cluster needs to run.
func ControlPlane() []Program {
	return []Program{Etcd, KubeAPIServer, KubeControllerManager, Kubectl}
}

// ErrMissing is the error of Find for a program that has not been built, or was built from another pin.
var ErrMissing = errors.New("not built, or built from other versions; run: make controlplane")

// modulePath is where the pins live, from the root of the repository.
const modulePath = "test/cluster/controlplane"

// Cache is the folder of built programs of one copy of the repository.
type Cache struct {
	module string // folder of the Go module that pins the programs
	bin    string // folder of the built programs
	key    string // what a program built now would be built from
}

// Open finds the cache of the repository that the working directory is in.
func Open() (*Cache, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	c := &Cache{module: filepath.Join(root, modulePath), bin: filepath.Join(root, ".cache", "bin")}
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(c.module, name))
		if err != nil {
			return nil, fmt.Errorf("reading the versions of the control plane: %w", err)
		}
		sum.Write(content)
	}
	sum.Write([]byte(recipe))
	c.key = hex.EncodeToString(sum.Sum(nil))
	return c, nil
}

// Find returns the path of a program that is ready to run. The error wraps ErrMissing when it has to be built first.
func (c *Cache) Find(p Program) (string, error) {
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		path := filepath.Join(assets, string(p))
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	path := c.path(p)
	stamp, err := os.ReadFile(path + ".stamp")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading what %s was built from: %w", p, err)
	}
	if strings.TrimSpace(string(stamp)) != c.key {
		return "", fmt.Errorf("%s in %s: %w", p, c.bin, ErrMissing)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s in %s: %w", p, c.bin, ErrMissing)
	}
	return path, nil
}

func (c *Cache) path(p Program) string { return filepath.Join(c.bin, string(p)) }

// repository returns the root of the repository that the working directory is in.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, modulePath, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside the repository: no parent holds %s/go.mod", start, modulePath)
		}
	}
}
