package catalog_test

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// gate stands before an API server and lets requests in for the resources that are open.
type gate struct {
	inside http.Handler
	mu     sync.Mutex
	opened map[string]bool
}

func (g *gate) open(resources ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range resources {
		g.opened[r] = true
	}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	open := g.opened[path.Base(r.URL.Path)]
	g.mu.Unlock()
	if !open {
		http.Error(w, "not yet", http.StatusServiceUnavailable)
		return
	}
	g.inside.ServeHTTP(w, r)
}

// behindGate starts a catalog whose API server answers nothing yet.
func behindGate(t *testing.T, objects ...object) (world, *gate) {
	t.Helper()
	a := newAPI(t)
	g := &gate{inside: a.Config.Handler, opened: map[string]bool{}}
	a.Config.Handler = g
	a.put(objects...)
	return world{a, a.catalog(t)}, g
}

// snapshotOf is what a catalog knows that has seen these objects.
func snapshotOf(t *testing.T, objects ...object) catalog.Snapshot {
	t.Helper()
	w := follow(t, objects...)
	w.take()
	s, complete := w.Snapshot()
	if !complete {
		t.Fatal("the catalog has no snapshot although its lists are complete")
	}
	return s
}

func TestASnapshotIsWhatWasTaken(t *testing.T) {
	objects := []object{here("a"), cidr("172.30.0.0/16"), named("one"), named("two"), sliceOf("s1", "one", "10.0.1.1")}
	want, got := follow(t, objects...).take(), snapshotOf(t, objects...)
	slices.SortFunc(got.Entries, func(a, b catalog.Entry) int { return strings.Compare(a.Name.Name, b.Name.Name) })
	if text := cmp.Diff(want.Entries, got.Entries, withAddresses()); text != "" {
		t.Errorf("entries (-want +got):\n%s", text)
	}
	if text := cmp.Diff(want.World, got.World, withAddresses()); text != "" {
		t.Errorf("world (-want +got):\n%s", text)
	}
	if got.Taken.IsZero() {
		t.Error("the snapshot does not say when it was taken")
	}
}

func TestNoSnapshotBeforeTheListsAreComplete(t *testing.T) {
	w, _ := behindGate(t)
	if s, complete := w.Snapshot(); complete {
		t.Errorf("got %v", s)
	}
}

func TestARestoredSnapshotStandsInUntilEveryListIsThere(t *testing.T) {
	before := snapshotOf(t, here("a"), cidr("172.30.0.0/16"), named("gone"), named("stays"), named("moves"),
		sliceOf("s0", "gone", "10.0.1.1"), sliceOf("s1", "stays", "10.0.1.2"), sliceOf("s2", "moves", "10.0.1.3"))
	w, gate := behindGate(t, here("a"), cidr("172.30.0.0/16"), named("stays"), named("moves"), named("new"),
		sliceOf("s1", "stays", "10.0.1.2"), sliceOf("s2", "moves", "10.0.1.4"), sliceOf("s3", "new", "10.0.1.5"))
	if b, complete := w.Take(); complete {
		t.Fatalf("with nothing listed and nothing restored, Take says %v", b)
	}
	w.Restore(before)
	b := w.take()
	if !b.Remembered || !b.WorldChanged || b.World.Node.Zone != "a" || !b.Since.IsZero() {
		t.Errorf("the first batch is %+v, want one that is remembered", b)
	}
	if diff := cmp.Diff([]string{"ns/gone", "ns/moves", "ns/stays"}, names(b)); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}

	for _, resource := range []string{"services", "nodes", "servicecidrs"} {
		gate.open(resource)
		w.somethingListed()
		if b, complete := w.Take(); !complete || !b.Remembered || b.WorldChanged || len(b.Entries) > 0 {
			t.Errorf("with %s open, Take says %+v (%v), want that nothing has changed", resource, b, complete)
		}
		if all := w.All(); len(all) != 3 {
			t.Errorf("with %s open, All returns %d Services, want the 3 that are remembered", resource, len(all))
		}
	}

	gate.open("endpointslices")
	b = w.take()
	if b.Remembered {
		t.Error("what the API server says counts as remembered")
	}
	if diff := cmp.Diff([]string{"gone gone", "moves 10.0.1.4", "new 10.0.1.5", "stays 10.0.1.2"}, lines(b)); diff != "" {
		t.Errorf("once every list is there (-want +got):\n%s", diff)
	}
	w.put(sliceOf("s3", "new", "10.0.1.6"))
	w.expect("a change afterwards", "new 10.0.1.6")
}

func TestASnapshotIsOfNoUseOnceEverythingIsListed(t *testing.T) {
	w := follow(t, here("a"), named("one"), sliceOf("s1", "one", "10.0.1.1"))
	w.expect("the beginning", "one 10.0.1.1")
	w.Restore(snapshotOf(t, here("b"), named("two")))
	if b, ok := w.Take(); !ok || b.Remembered || len(b.Entries) > 0 {
		t.Errorf("Take says %+v", b)
	}
}

// TestListsThatComeBeforeTheSnapshotIsTaken restores a snapshot that nobody gets to see.
func TestListsThatComeBeforeTheSnapshotIsTaken(t *testing.T) {
	before := snapshotOf(t, here("a"), named("gone"))
	w, gate := behindGate(t, here("a"), named("one"), sliceOf("s1", "one", "10.0.1.1"))
	w.Restore(before)
	gate.open("services", "nodes", "servicecidrs", "endpointslices")
	for !w.Synced() {
		w.somethingListed()
	}
	b, ok := w.Take()
	if diff := cmp.Diff([]string{"one 10.0.1.1"}, lines(b)); !ok || b.Remembered || diff != "" {
		t.Errorf("Take says %v, %+v (-want +got):\n%s", ok, b, diff)
	}
}

// somethingListed waits until the catalog says that something is new.
func (w world) somethingListed() {
	w.t.Helper()
	select {
	case <-w.Changed():
	case <-time.After(time.Minute):
		w.t.Fatal("nothing was listed")
	}
}

// lines has each Service of a batch with the addresses of its endpoints.
func lines(b catalog.Batch) []string {
	var all []string
	for _, e := range b.Entries {
		line := e.Name.Name
		if e.Service == nil {
			line += " gone"
		}
		for _, s := range e.Slices {
			line += " " + strings.Join(addresses(s), " ")
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

func addresses(s *forwarding.Slice) []string {
	var all []string
	for _, e := range s.Endpoints {
		all = append(all, e.Addr.String())
	}
	return all
}
