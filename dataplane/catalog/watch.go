package catalog

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// The resources that a catalog watches.
const (
	kindServices     = "services"
	kindSlices       = "endpointslices"
	kindServiceCIDRs = "servicecidrs"
	kindNodes        = "nodes"
)

// Run watches the API until the context ends. The configuration should ask for protobuf. A lost connection is retried for
// ever, and what is known stays known meanwhile.
func (c *Catalog) Run(ctx context.Context, config *rest.Config) error {
	core, err := apiserver.NewClient(config, corev1.SchemeGroupVersion, corev1.AddToScheme)
	if err != nil {
		return err
	}
	discovery, err := apiserver.NewClient(config, discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme)
	if err != nil {
		return err
	}
	networking, err := apiserver.NewClient(config, networkingv1.SchemeGroupVersion, networkingv1.AddToScheme)
	if err != nil {
		return err
	}
	noHeadless, err := labels.NewRequirement(corev1.IsHeadlessService, selection.DoesNotExist, nil)
	if err != nil {
		return fmt.Errorf("building the selector of EndpointSlices: %w", err)
	}
	services := &store[forwarding.Service]{
		kind: kindServices, catalog: c, set: c.setServiceLocked, known: func() []types.NamespacedName { return names(c.services) },
		reduce: func(obj any) reduced[forwarding.Service] { return decodeService(obj.(*corev1.Service)) },
	}
	endpointSlices := &store[slice]{
		kind: kindSlices, catalog: c, set: c.setSliceLocked, known: func() []types.NamespacedName { return names(c.slices) },
		reduce: func(obj any) reduced[slice] { return decodeSlice(obj.(*discoveryv1.EndpointSlice), c.nodeName) },
	}
	serviceCIDRs := &store[[]netip.Prefix]{
		kind: kindServiceCIDRs, catalog: c, set: c.setServiceCIDRsLocked, known: func() []types.NamespacedName { return names(c.serviceCIDRs) },
		reduce: func(obj any) reduced[[]netip.Prefix] { return decodeServiceCIDR(obj.(*networkingv1.ServiceCIDR)) },
	}
	node := &store[Node]{
		kind: kindNodes, catalog: c, set: c.setNodeLocked, known: c.knownNodes,
		reduce: func(obj any) reduced[Node] { return decodeNode(obj.(*corev1.Node)) },
	}
	var wg sync.WaitGroup
	follow := func(kind string, from cache.ListerWatcher, expected runtime.Object, store cache.ReflectorStore) {
		reflector := cache.NewReflectorWithOptions(from, expected, store,
			cache.ReflectorOptions{Name: "catalog/" + kind, Backoff: apiserver.Backoff()})
		wg.Go(func() { reflector.RunWithContext(ctx) })
	}
	from := func(kind string, api cache.Getter, selector func(*metav1.ListOptions)) *cache.ListWatch {
		return c.tolerateAbsence(kind, cache.NewFilteredListWatchFromClient(api, kind, metav1.NamespaceAll, selector))
	}
	reflect := func(kind string, api cache.Getter, expected runtime.Object, store cache.ReflectorStore, selector func(*metav1.ListOptions)) {
		follow(kind, cache.ToListWatcherWithWatchListSemantics(from(kind, api, selector), api), expected, store)
	}
	// Headless Services have no address to be reached at, so they need not even be sent.
	follow(kindServices, listed{from(kindServices, core, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.clusterIP", corev1.ClusterIPNone).String()
	})}, &corev1.Service{}, services)
	reflect(kindSlices, discovery, &discoveryv1.EndpointSlice{}, endpointSlices, func(o *metav1.ListOptions) {
		o.LabelSelector = labels.NewSelector().Add(*noHeadless).String()
	})
	reflect(kindServiceCIDRs, networking, &networkingv1.ServiceCIDR{}, serviceCIDRs, func(*metav1.ListOptions) {})
	reflect(kindNodes, core, &corev1.Node{}, node, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, c.nodeName).String()
	})
	wg.Wait()
	return nil
}

// listed begins with a list instead of a watch that sends what there is first. Such a watch of Services is slow: the API server
// has each of them go through a goroutine of its own (Decorator in pkg/registry/core/service/storage), after which it takes
// each for the only one, and compresses and sends it alone. 20,000 Services took 1.8 s and 9.1 MB; in a list 0.2 s and 1 MB.
type listed struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported has a reflector list.
func (listed) IsWatchListSemanticsUnSupported() bool { return true }

// ListWithContext asks for everything as it is now, at once. An API server answers that from memory (KEP-2340), while one part after the
// other it may read from etcd, and what the reflector would ask for first may be older than what the agent knew before it was
// started again.
func (l listed) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.ResourceVersion == "0" {
		o.ResourceVersion, o.Limit = "", 0
	}
	return l.ListWatch.ListWithContext(ctx, o)
}

// tolerateAbsence counts a resource that the API server does not have as listed, and empty: ServiceCIDR is there since
// Kubernetes 1.33. The reflector goes on trying, so that an upgrade of the API server is noticed.
func (c *Catalog) tolerateAbsence(kind string, lw *cache.ListWatch) *cache.ListWatch {
	noticed := func(err error) error {
		if apierrors.IsNotFound(err) {
			c.setSynced(kind)
		}
		return err
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := lw.ListWithContext(ctx, o)
			return list, noticed(err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := lw.WatchWithContext(ctx, o)
			return w, noticed(err)
		},
	}
}

// store is where a reflector puts its objects. It is a cache.TransformingStore: an object is reduced as it arrives, also
// while the initial list is being collected, so that no API object outlives its decoding.
type store[T any] struct {
	kind    string
	catalog *Catalog
	reduce  func(any) reduced[T]
	// set and known are called with the catalog locked.
	set   func(reduced[T])
	known func() []types.NamespacedName
}

var _ cache.TransformingStore = (*store[Node])(nil)

func (s *store[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return s.reduced(obj), nil }
}

func (s *store[T]) reduced(obj any) reduced[T] {
	if r, done := obj.(reduced[T]); done {
		return r
	}
	return s.reduce(obj)
}

func (s *store[T]) Add(obj any) error { return s.Update(obj) }

func (s *store[T]) Update(obj any) error {
	r := s.reduced(obj)
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	s.set(r)
	return nil
}

func (s *store[T]) Delete(obj any) error {
	name := s.reduced(obj).name
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	s.set(reduced[T]{name: name})
	return nil
}

func (s *store[T]) Replace(objs []any, _ string) error {
	all := make([]reduced[T], 0, len(objs))
	for _, obj := range objs {
		all = append(all, s.reduced(obj))
	}
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	listed := make(map[types.NamespacedName]bool, len(all))
	for _, r := range all {
		listed[r.name] = true
		s.set(r)
	}
	for _, name := range s.known() {
		if !listed[name] {
			s.set(reduced[T]{name: name})
		}
	}
	s.catalog.synced[s.kind] = true
	s.catalog.notify()
	return nil
}

func (s *store[T]) Resync() error { return nil }
