package catalog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

// api is as much of an API server as a reflector needs: it lists Services, streams the objects that it has of other resources,
// then a bookmark, and then every change. It does not select; objects that a real server would hold back are not put in.
type api struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]object // by resource and namespace/name
	watchers map[string][]chan watch.Event
	history  map[string][]happened
	// oldest is the version from which on watches are taken, by resource.
	oldest  map[string]int
	queries map[string]string
	absent  map[string]bool
}

// happened is an event that watches from an earlier version on are told.
type happened struct {
	version int
	watch.Event
}

type object interface {
	runtime.Object
	metav1.Object
}

func newAPI(t *testing.T) *api {
	a := &api{
		t: t, version: 1, objects: map[string]map[string]object{}, watchers: map[string][]chan watch.Event{},
		history: map[string][]happened{}, oldest: map[string]int{}, queries: map[string]string{}, absent: map[string]bool{},
	}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(func() { a.cut(); a.CloseClientConnections(); a.Close() })
	return a
}

func resourceOf(o object) string {
	switch o.(type) {
	case *corev1.Service:
		return "services"
	case *discoveryv1.EndpointSlice:
		return "endpointslices"
	case *networkingv1.ServiceCIDR:
		return "servicecidrs"
	case *corev1.Node:
		return "nodes"
	}
	panic(fmt.Sprintf("no resource for %T", o))
}

// put creates or updates objects.
func (a *api) put(objects ...object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range objects {
		a.version++
		o.SetResourceVersion(strconv.Itoa(a.version))
		o.SetUID(types.UID("uid-" + o.GetName()))
		resource, kind := resourceOf(o), watch.Added
		if a.objects[resource] == nil {
			a.objects[resource] = map[string]object{}
		}
		key := o.GetNamespace() + "/" + o.GetName()
		if a.objects[resource][key] != nil {
			kind = watch.Modified
		}
		a.objects[resource][key] = o
		a.happen(resource, watch.Event{Type: kind, Object: o})
	}
}

// remove deletes an object, and tells watchers of it unless it is to be lost while nobody watches.
func (a *api) remove(o object, silently bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	delete(a.objects[resourceOf(o)], o.GetNamespace()+"/"+o.GetName())
	o.SetResourceVersion(strconv.Itoa(a.version))
	if !silently {
		a.happen(resourceOf(o), watch.Event{Type: watch.Deleted, Object: o})
	}
}

// happen is called with the lock held.
func (a *api) happen(resource string, e watch.Event) {
	a.history[resource] = append(a.history[resource], happened{a.version, e})
	a.send(resource, e)
}

// send is called with the lock held.
func (a *api) send(resource string, e watch.Event) {
	for _, w := range a.watchers[resource] {
		w <- e
	}
}

// expire ends the watches of a resource with an error that makes clients list again, and those that a client is about to begin
// after an earlier list.
func (a *api) expire(resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.oldest[resource] = a.version
	a.send(resource, expired())
}

func expired() watch.Event {
	return watch.Event{Type: watch.Error, Object: &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired, Message: "too old",
	}}
}

// cut ends all watches.
func (a *api) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for resource, watchers := range a.watchers {
		for _, w := range watchers {
			close(w)
		}
		delete(a.watchers, resource)
	}
}

func (a *api) query(resource string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queries[resource]
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	resource := parts[len(parts)-1]
	events, absent := a.subscribe(resource, r)
	if absent {
		http.NotFound(w, r)
		return
	}
	if events == nil {
		a.list(w, resource)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	for {
		select {
		case e, open := <-events:
			if !open {
				return
			}
			raw, err := runtime.Encode(scheme.Codecs.LegacyCodec(scheme.Scheme.PrioritizedVersionsAllGroups()...), e.Object)
			if err != nil {
				a.t.Errorf("encoding %T: %v", e.Object, err)
				return
			}
			if err := json.NewEncoder(w).Encode(map[string]any{"type": e.Type, "object": json.RawMessage(raw)}); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// list answers with all objects of a resource.
func (a *api) list(w http.ResponseWriter, resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if resource != "services" {
		http.Error(w, "this server lists nothing but Services", http.StatusBadRequest)
		return
	}
	list := &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(a.version)}}
	for _, o := range a.objects[resource] {
		list.Items = append(list.Items, *o.(*corev1.Service))
	}
	raw, err := runtime.Encode(scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion), list)
	if err != nil {
		a.t.Errorf("encoding a list: %v", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw) // the client may be gone
}

// subscribe returns the events that a request asks for; nil if it asks for none.
func (a *api) subscribe(resource string, r *http.Request) (events chan watch.Event, absent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := r.URL.Query()
	a.queries[resource] = q.Get("fieldSelector") + q.Get("labelSelector")
	if a.absent[resource] || q.Get("watch") == "" {
		return nil, a.absent[resource]
	}
	events = make(chan watch.Event, 1000)
	if q.Get("sendInitialEvents") == "true" {
		for _, o := range a.objects[resource] {
			events <- watch.Event{Type: watch.Added, Object: o}
		}
		bookmark := map[string]object{
			"services": &corev1.Service{}, "endpointslices": &discoveryv1.EndpointSlice{},
			"servicecidrs": &networkingv1.ServiceCIDR{}, "nodes": &corev1.Node{},
		}[resource]
		bookmark.SetResourceVersion(strconv.Itoa(a.version))
		bookmark.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		events <- watch.Event{Type: watch.Bookmark, Object: bookmark}
	} else if from, err := strconv.Atoi(q.Get("resourceVersion")); err == nil {
		if from < a.oldest[resource] {
			events <- expired()
		}
		for _, h := range a.history[resource] {
			if h.version > from {
				events <- h.Event
			}
		}
	}
	a.watchers[resource] = append(a.watchers[resource], events)
	return events, false
}

// world is an API server and a catalog that follows it.
type world struct {
	*api
	*catalog.Catalog
}

// follow starts a catalog for node "here" once the objects are there. It waits for nothing.
func follow(t *testing.T, objects ...object) world {
	t.Helper()
	a := newAPI(t)
	a.put(objects...)
	return world{a, a.catalog(t)}
}

func (a *api) catalog(t *testing.T) *catalog.Catalog {
	t.Helper()
	return a.catalogAt(t, time.Now)
}

// catalogAt starts a catalog that goes by a clock.
func (a *api) catalogAt(t *testing.T, now func() time.Time) *catalog.Catalog {
	t.Helper()
	c := catalog.New("here", now)
	a.run(t, c)
	return c
}

// run has a catalog follow until the test ends.
func (a *api) run(t *testing.T, c *catalog.Catalog) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, &rest.Config{Host: a.URL, QPS: -1}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// take waits until Take has something to say.
func (w world) take() catalog.Batch {
	w.t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case <-w.Changed():
			if b, ok := w.Take(); ok && (len(b.Entries) > 0 || b.WorldChanged || len(b.Problems) > 0) {
				slices.SortFunc(b.Entries, func(x, y catalog.Entry) int { return strings.Compare(x.Name.String(), y.Name.String()) })
				return b
			}
		case <-timeout:
			w.t.Fatal("nothing changed in the catalog")
		}
	}
}

// first waits for everything that was there at the start.
func first(t *testing.T, objects ...object) catalog.Batch {
	t.Helper()
	return follow(t, append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}})...).take()
}

func names(b catalog.Batch) []string {
	var all []string
	for _, e := range b.Entries {
		all = append(all, e.Name.String())
	}
	return all
}
