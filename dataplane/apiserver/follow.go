package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// The EndpointSlice that the API servers write about themselves.
const (
	SliceNamespace = metav1.NamespaceDefault
	SliceName      = "kubernetes"
)

// Follow watches the EndpointSlice of the API servers until the context ends. It watches one object by its name, which
// costs an API server nothing while other EndpointSlices change.
func (s *Servers) Follow(ctx context.Context) error {
	client, err := NewClient(Protobuf(s.Config()), discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme)
	if err != nil {
		return err
	}
	lw := cache.NewFilteredListWatchFromClient(client, "endpointslices", SliceNamespace,
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, SliceName).String()
		})
	store := &slice{servers: s, logger: klog.FromContext(ctx)}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, client), &discoveryv1.EndpointSlice{}, store,
		cache.ReflectorOptions{Name: "apiserver/endpointslice", Backoff: Backoff()}).RunWithContext(ctx)
	return nil
}

// slice passes on what the EndpointSlice says.
type slice struct {
	servers *Servers
	logger  klog.Logger
}

var _ cache.ReflectorStore = (*slice)(nil)

func (s *slice) Add(obj any) error { return s.Update(obj) }

func (s *slice) Update(obj any) error {
	current, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return fmt.Errorf("expected an EndpointSlice, got %T", obj)
	}
	addresses := Addresses(current)
	if !s.servers.find(addresses) {
		return nil
	}
	s.logger.Info("API servers found", "addresses", addresses)
	if file := s.servers.options.File; file != "" {
		if err := store(file, addresses); err != nil {
			s.logger.Error(err, "The next start has to find the API servers again")
		}
	}
	return nil
}

// Delete keeps what is known: the API servers did not go with an object.
func (s *slice) Delete(any) error { return nil }

func (s *slice) Replace(objs []any, _ string) error {
	for _, obj := range objs {
		if err := s.Update(obj); err != nil {
			return err
		}
	}
	return nil
}

func (s *slice) Resync() error { return nil }

// remembered is the content of the file.
type remembered struct {
	// Version is fileVersion. A file of another version is not read.
	Version int      `json:"version"`
	Servers []string `json:"servers"`
}

const fileVersion = 1

// load returns the addresses in the file, none if there is no file.
func load(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the API servers that were found before: %w", err)
	}
	var content remembered
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, fmt.Errorf("reading the API servers that were found before from %s: %w", file, err)
	}
	if content.Version != fileVersion {
		return nil, fmt.Errorf("reading the API servers that were found before from %s: its version is %d, and this program knows %d",
			file, content.Version, fileVersion)
	}
	return content.Servers, nil
}

// store writes the addresses, so that the file is the old one or the new one at any moment.
func store(file string, addresses []string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("remembering the API servers: %w", err)
		}
	}()
	text, err := json.Marshal(remembered{Version: fileVersion, Servers: addresses})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeLeft(temporary.Name())) }()
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}

// removeLeft removes a file that was not renamed.
func removeLeft(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
