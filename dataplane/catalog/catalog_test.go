package catalog_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

func named(name string) *corev1.Service { return service(func(s *corev1.Service) { s.Name = name }) }

func sliceOf(name, owner, address string) *discoveryv1.EndpointSlice {
	return slice(func(s *discoveryv1.EndpointSlice) {
		s.Name, s.Labels[discoveryv1.LabelServiceName], s.Endpoints[0].Addresses[0] = name, owner, address
	})
}

func here(zone string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
}

func cidr(network string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{network}},
	}
}

// text is what the next batch says: each Service with the addresses of its endpoints.
func (w world) text() []string {
	w.t.Helper()
	lines := []string{}
	for _, e := range w.take().Entries {
		line := e.Name.Name
		if e.Service == nil {
			line += " gone"
		}
		var found []string
		for _, s := range e.Slices {
			for _, endpoint := range s.Endpoints {
				found = append(found, endpoint.Addr.String())
			}
		}
		slices.Sort(found)
		lines = append(lines, strings.TrimSpace(line+" "+strings.Join(found, " ")))
	}
	return lines
}

func (w world) expect(what string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.text()); diff != "" {
		w.t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func TestTakeSaysWhatChanged(t *testing.T) {
	w := follow(t, here("a"), named("one"), named("two"), sliceOf("s1", "one", "10.0.1.1"), sliceOf("s2", "two", "10.0.1.2"))
	w.expect("the beginning", "one 10.0.1.1", "two 10.0.1.2")
	w.put(sliceOf("s1", "one", "10.0.1.9"))
	w.expect("an endpoint changed", "one 10.0.1.9")
	w.put(sliceOf("s3", "one", "10.0.1.3"))
	w.expect("a slice more", "one 10.0.1.3 10.0.1.9")
	w.put(named("two"))
	w.expect("a Service changed", "two 10.0.1.2")
	w.remove(sliceOf("s1", "one", ""), false)
	w.expect("a slice less", "one 10.0.1.3")
	w.remove(named("two"), false)
	w.expect("a Service less", "two gone")
	w.put(named("two"))
	w.expect("it is back, and so are its endpoints", "two 10.0.1.2")
	w.put(service(func(s *corev1.Service) { s.Name, s.Spec.Type = "two", corev1.ServiceTypeExternalName }))
	w.expect("a Service that gets no rules any more", "two gone")
	if b, ok := w.Take(); !ok || len(b.Entries) > 0 || b.WorldChanged || !b.Since.IsZero() {
		t.Errorf("Take says %+v (%v) though nothing has changed", b, ok)
	}
	if diff := cmp.Diff(catalog.Changes{Services: 6, Slices: 5}, w.Changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if all := w.All(); len(all) != 1 || all[0].Name.Name != "one" || len(all[0].Slices) != 1 {
		t.Errorf("All returns %v, want one with a slice", all)
	}
}

func TestASliceMovesToAnotherService(t *testing.T) {
	w := follow(t, here("a"), named("one"), named("two"), sliceOf("s1", "one", "10.0.1.1"))
	w.expect("the beginning", "one 10.0.1.1", "two")
	w.put(sliceOf("s1", "two", "10.0.1.1"))
	w.expect("the slice of another", "one", "two 10.0.1.1")
}

func TestRelistAfterLostDeletions(t *testing.T) {
	w := follow(t, here("a"), named("one"), named("two"), sliceOf("s1", "one", "10.0.1.1"), sliceOf("s2", "two", "10.0.1.2"))
	w.expect("the beginning", "one 10.0.1.1", "two 10.0.1.2")
	w.remove(named("two"), true)
	w.expire("services")
	got := w.text() // The others are listed again too.
	if !slices.Contains(got, "two gone") {
		t.Errorf("changes %v, want one that says that two is gone", got)
	}
	w.remove(sliceOf("s1", "one", ""), true)
	w.expire("endpointslices")
	if got = w.text(); !slices.Contains(got, "one") {
		t.Errorf("changes %v, want one without endpoints", got)
	}
}

func TestAWorldThatChangesConcernsEverybody(t *testing.T) {
	w := follow(t, here("a"), cidr("172.30.0.0/16"), named("one"), named("two"), sliceOf("s1", "one", "10.0.1.1"))
	w.expect("the beginning", "one 10.0.1.1", "two")
	everybody := func(what string) catalog.World {
		b := w.take()
		if !b.WorldChanged || !slices.Equal(names(b), []string{"ns/one", "ns/two"}) {
			t.Errorf("%s: world changed: %v, entries %v, want every Service", what, b.WorldChanged, names(b))
		}
		return b.World
	}
	w.put(here("b"))
	everybody("the zone")
	w.put(cidr("172.29.0.0/16"))
	everybody("the range")
	w.remove(cidr(""), false)
	if world := everybody("the range is gone"); len(world.ServiceCIDRs) > 0 {
		t.Errorf("ranges %v are left", world.ServiceCIDRs)
	}
	w.remove(here("b"), false)
	if world := everybody("the node is gone"); !world.Node.Leaving || world.Node.Zone != "b" {
		t.Errorf("node is %+v, want what it was before, and leaving", world.Node)
	}
	heartbeat := here("b")
	heartbeat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	w.put(heartbeat)
	everybody("the node is back")
	w.put(heartbeat)
	w.put(named("one"))
	if b := w.take(); b.WorldChanged || !slices.Equal(names(b), []string{"ns/one"}) {
		t.Errorf("a heartbeat of the node changed the world: %v, %v", b.WorldChanged, names(b))
	}
}

func TestNothingIsTakenBeforeEverythingIsListed(t *testing.T) {
	if _, ok := catalog.New("here", time.Now).Take(); ok {
		t.Error("Take has something to say before anything was listed")
	}
	a := newAPI(t)
	a.put(named("one"))
	a.absent["servicecidrs"] = true // an API server before Kubernetes 1.33 counts as listed
	w := world{a, a.catalog(t)}
	w.put(here("a"))
	w.expect("the beginning", "one")
	if !w.Synced() {
		t.Error("Synced is false after the first Take")
	}
}

func TestTriggersAreKnownForChangesOnly(t *testing.T) {
	at := func(second int) *discoveryv1.EndpointSlice {
		s := sliceOf("s1", "svc", "10.0.1.1")
		s.Annotations = map[string]string{
			corev1.EndpointsLastChangeTriggerTime: time.Unix(int64(second), 0).UTC().Format(time.RFC3339Nano),
		}
		return s
	}
	w := follow(t, here("a"), service(nil), at(100))
	if b := w.take(); len(b.Triggered) > 0 {
		t.Errorf("triggers %v: what was there before the start says nothing about how fast this is", b.Triggered)
	}
	before := time.Now()
	w.put(at(200))
	b := w.take()
	if len(b.Triggered) != 1 || b.Triggered[0].Unix() != 200 {
		t.Errorf("triggers %v, want the one at 200 s", b.Triggered)
	}
	if b.Since.Before(before) || b.Since.After(time.Now()) {
		t.Errorf("changed since %s, want a moment ago", b.Since)
	}
}

func TestOnlyWhatIsNeededIsAskedFor(t *testing.T) {
	w := follow(t, here("a"), service(nil))
	w.take()
	for resource, want := range map[string]string{
		"services": "spec.clusterIP!=None", "endpointslices": "!service.kubernetes.io/headless", "nodes": "metadata.name=here",
	} {
		if got := w.query(resource); got != want {
			t.Errorf("%s are selected by %q, want %q", resource, got, want)
		}
	}
}

// Changes from all sides while somebody takes them: in the end the reader knows what is there. Run it with -race.
func TestConcurrentChanges(t *testing.T) {
	const writers, rounds = 4, 100
	w := follow(t, here("a"))
	w.take()
	var writing sync.WaitGroup
	for writer := range writers {
		writing.Go(func() {
			for round := range rounds {
				name := fmt.Sprintf("svc%d-%d", writer, round%10)
				w.put(named(name), sliceOf("slice-of-"+name, name, fmt.Sprintf("10.0.%d.%d", writer, round)))
				if round%3 == 0 {
					w.remove(named(name), false)
				}
			}
		})
	}
	go func() { // marks the end of both streams
		writing.Wait()
		w.put(named("last"), sliceOf("slice-of-last", "last", "10.9.9.9"))
	}()

	known := map[string]string{}
	for known["last"] != "10.9.9.9" {
		for _, line := range w.text() {
			name, rest, _ := strings.Cut(line, " ")
			if rest == "gone" {
				delete(known, name)
			} else {
				known[name] = rest
			}
		}
		_ = w.All()
		_ = w.Synced()
	}
	delete(known, "last")
	want := map[string]string{}
	for _, e := range w.All() {
		if e.Name.Name == "last" {
			continue
		}
		for _, s := range e.Slices {
			want[e.Name.Name] = s.Endpoints[0].Addr.String()
		}
	}
	if diff := cmp.Diff(want, known); diff != "" {
		t.Errorf("what the batches add up to (-all +known):\n%s", diff)
	}
	if len(known) == 0 {
		t.Error("no Service is left to compare")
	}
}
