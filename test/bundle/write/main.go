// Command write writes bundle/ and bundle.Dockerfile of a source tree, from its config/manifests. The same tree always
// gives the same files.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/serviceproxy/service-proxy-operator/test/bundle/olm"
	"github.com/serviceproxy/service-proxy-operator/test/kustomize"
)

func main() {
	options := olm.Options{Package: "service-proxy-operator", Images: map[string]string{}}
	var images []string
	pflag.StringSliceVar(&options.Channels, "channels", []string{"candidate"}, "channels of the version, the default one first")
	pflag.StringSliceVar(&images, "image", nil, "REPOSITORY=REFERENCE to take for it, for instance with a digest")
	pflag.Parse()
	for _, image := range images {
		repository, reference, _ := strings.Cut(image, "=")
		options.Images[repository] = reference
	}
	if err := write(pflag.Arg(0), options); err != nil {
		fmt.Fprintln(os.Stderr, "bundle:", err)
		os.Exit(1)
	}
}

// write makes the bundle of the source tree at root.
func write(root string, options olm.Options) error {
	objects, err := kustomize.Build(filepath.Join(root, "config/manifests"))
	if err != nil {
		return err
	}
	files, err := olm.Make(objects, options)
	if err != nil {
		return err
	}
	// What is no longer part of the bundle must not stay.
	if err := os.RemoveAll(filepath.Join(root, "bundle")); err != nil {
		return fmt.Errorf("removing the bundle before: %w", err)
	}
	for path, content := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing the bundle: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("writing the bundle: %w", err)
		}
	}
	return nil
}
