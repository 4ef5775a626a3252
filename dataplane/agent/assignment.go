package agent

import (
	"context"
	"fmt"
	"os"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
)

// Assignment is what this node is to run.
type Assignment struct {
	// UID is that of the ServiceProxyNode; empty in stand-alone mode.
	UID        types.UID
	Generation int64
	Revision   string
	// Release asks to give the node back: everything of ours is to be removed.
	Release  bool
	Settings v1alpha1.ProxySettings
}

// assignmentStore holds the latest assignment. It is a cache.ReflectorStore for the one ServiceProxyNode of this node.
type assignmentStore struct {
	changed chan struct{}

	mu      sync.Mutex
	current *Assignment
	// known says that the API server was asked, so that no assignment means that there is none.
	known bool
}

func newAssignmentStore() *assignmentStore {
	return &assignmentStore{changed: make(chan struct{}, 1)}
}

// get returns the latest assignment, nil where there never was one, and whether that is known by now.
func (s *assignmentStore) get() (current *Assignment, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.known
}

func (s *assignmentStore) set(a *Assignment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = true
	if a != nil && (s.current == nil || a.UID != s.current.UID || a.Generation != s.current.Generation) {
		s.current = a
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

var _ cache.ReflectorStore = (*assignmentStore)(nil)

func (s *assignmentStore) Add(obj any) error { return s.Update(obj) }

func (s *assignmentStore) Update(obj any) error {
	spn, ok := obj.(*v1alpha1.ServiceProxyNode)
	if !ok {
		return fmt.Errorf("expected a ServiceProxyNode, got %T", obj)
	}
	s.set(&Assignment{
		UID: spn.UID, Generation: spn.Generation, Revision: spn.Spec.Revision,
		Release: spn.Spec.Action == v1alpha1.ActionRelease, Settings: spn.Spec.ProxySettings,
	})
	return nil
}

// Delete keeps the assignment: an object that is deleted by mistake must not take the node's Services with it.
func (s *assignmentStore) Delete(any) error { return nil }

func (s *assignmentStore) Replace(objs []any, _ string) error {
	s.set(nil)
	for _, obj := range objs {
		if err := s.Update(obj); err != nil {
			return err
		}
	}
	return nil
}

func (s *assignmentStore) Resync() error { return nil }

// resource is the path of ServiceProxyNodes in the API.
const resource = "serviceproxynodes"

// follow watches the ServiceProxyNode of a node until the context ends.
func (s *assignmentStore) follow(ctx context.Context, client rest.Interface, nodeName string) {
	lw := cache.NewFilteredListWatchFromClient(client, resource, metav1.NamespaceAll, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, nodeName).String()
	})
	cache.NewReflectorWithOptions(lw, &v1alpha1.ServiceProxyNode{}, s,
		cache.ReflectorOptions{Name: "agent/" + resource, Backoff: apiserver.Backoff()}).RunWithContext(ctx)
}

// ReadConfig reads an assignment from a file that holds a ServiceProxyConfig, for a node that no operator looks after.
// Which nodes the config selects makes no difference. An unknown field is an error.
func ReadConfig(path string) (*Assignment, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	var config v1alpha1.ServiceProxyConfig
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		return nil, fmt.Errorf("reading the config %s: %w", path, err)
	}
	if want := v1alpha1.GroupVersion().String(); config.APIVersion != want || config.Kind != "ServiceProxyConfig" {
		return nil, fmt.Errorf("reading the config %s: it holds %s %s, and a %s ServiceProxyConfig is needed",
			path, config.APIVersion, config.Kind, want)
	}
	if mode := config.Spec.Mode; mode != v1alpha1.ModeIPTables && mode != v1alpha1.ModeIPVS {
		return nil, fmt.Errorf("reading the config %s: spec.mode: this agent does not know %q; it knows %s and %s",
			path, mode, v1alpha1.ModeIPTables, v1alpha1.ModeIPVS)
	}
	if err := checkFile(&config.Spec.ProxySettings); err != nil {
		return nil, fmt.Errorf("reading the config %s: %w", path, err)
	}
	return &Assignment{Generation: 1, Revision: config.Name, Settings: config.Spec.ProxySettings}, nil
}
