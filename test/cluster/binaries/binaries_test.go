package binaries_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// repository makes a repository with the given pins and some programs "built", and goes into a folder of it.
func repository(t *testing.T, pins string) (root string) {
	t.Helper()
	t.Setenv("KUBEBUILDER_ASSETS", "")
	root = t.TempDir()
	module := filepath.Join(root, "test", "cluster", "controlplane")
	write(t, filepath.Join(module, "go.mod"), pins)
	write(t, filepath.Join(module, "go.sum"), "")
	t.Chdir(module)
	return root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, p binaries.Program) (string, error) {
	t.Helper()
	cache, err := binaries.Open()
	if err != nil {
		t.Fatal(err)
	}
	return cache.Find(p)
}

func TestAMissingProgramNamesTheRemedy(t *testing.T) {
	repository(t, "module x\n")
	_, err := find(t, binaries.Etcd)
	if err == nil || !strings.Contains(err.Error(), "make controlplane") {
		t.Errorf("Find = %v, want an error that names the make target", err)
	}
}

func TestAProgramWithoutItsStampIsMissing(t *testing.T) {
	root := repository(t, "module x\n")
	write(t, filepath.Join(root, ".cache", "bin", "etcd"), "a build that was cut short")
	if path, err := find(t, binaries.Etcd); err == nil {
		t.Errorf("Find = %s, want an error", path)
	}
}

func TestAssetsWin(t *testing.T) {
	repository(t, "module x\n")
	assets := t.TempDir()
	write(t, filepath.Join(assets, "etcd"), "somebody else's")
	t.Setenv("KUBEBUILDER_ASSETS", assets)
	if path, err := find(t, binaries.Etcd); err != nil || path != filepath.Join(assets, "etcd") {
		t.Errorf("Find = %s, %v, want the program in $KUBEBUILDER_ASSETS", path, err)
	}
	if path, err := find(t, binaries.KubeControllerManager); err == nil {
		t.Errorf("Find = %s for a program that is not there", path)
	}
}

// TestBuildOnceForEveryPin builds a tiny module in the place of the real one.
func TestBuildOnceForEveryPin(t *testing.T) {
	root := repository(t, "module k8s.io/kubernetes\n\ngo 1.26\n")
	module := filepath.Join(root, "test", "cluster", "controlplane")
	write(t, filepath.Join(module, "cmd", "kubectl", "main.go"), "package main\n\nfunc main() {}\n")
	build := func() (progress string, err error) {
		cache, err := binaries.Open()
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		err = cache.Build(t.Context(), &out, binaries.Kubectl)
		return out.String(), err
	}

	// The module in the place of Kubernetes is the main module here, which has no version.
	if _, err := build(); err == nil || !strings.Contains(err.Error(), "not vMAJOR.MINOR.PATCH") {
		t.Errorf("Build = %v, want an error about the version", err)
	}

	write(t, filepath.Join(root, "kubernetes", "go.mod"), "module k8s.io/kubernetes\n\ngo 1.26\n")
	write(t, filepath.Join(root, "kubernetes", "cmd", "kubectl", "main.go"), "package main\n\nfunc main() {}\n")
	pins := "module x\n\ngo 1.26\n\nrequire k8s.io/kubernetes v1.2.3\n\nreplace k8s.io/kubernetes => ../../../kubernetes\n"
	write(t, filepath.Join(module, "go.mod"), pins)

	for _, step := range []struct{ name, pins, says string }{
		{"first", pins, "building kubectl"},
		{"again", pins, "up to date"},
		{"with another pin", strings.Replace(pins, "v1.2.3", "v1.2.4", 1), "building kubectl"},
	} {
		write(t, filepath.Join(module, "go.mod"), step.pins)
		progress, err := build()
		if err != nil || !strings.Contains(progress, step.says) {
			t.Fatalf("%s: Build said %q, %v, want %q", step.name, progress, err, step.says)
		}
		if step.says == "up to date" && strings.Count(progress, "\n") != 1 {
			t.Errorf("%s: Build said more than a line: %q", step.name, progress)
		}
		if _, err := find(t, binaries.Kubectl); err != nil {
			t.Errorf("%s: Find = %v after a build", step.name, err)
		}
	}
}
