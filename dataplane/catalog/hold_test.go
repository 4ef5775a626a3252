package catalog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

func TestWhatIsDoubted(t *testing.T) {
	usual := catalog.HoldBack{LossPercent: 90, For: 30 * time.Second}
	for name, test := range map[string]struct {
		settings     catalog.HoldBack
		before, lost catalog.Count
		want         bool
	}{
		"nothing":                         {usual, catalog.Count{Services: 100, Endpoints: 100}, catalog.Count{}, false},
		"nothing of nothing":              {usual, catalog.Count{}, catalog.Count{}, false},
		"all Services":                    {usual, catalog.Count{Services: 100}, catalog.Count{Services: 100}, true},
		"nearly all Services":             {usual, catalog.Count{Services: 100}, catalog.Count{Services: 90}, true},
		"not so many Services":            {usual, catalog.Count{Services: 100}, catalog.Count{Services: 89}, false},
		"all endpoints and no Service":    {usual, catalog.Count{Services: 3, Endpoints: 20}, catalog.Count{Endpoints: 20}, true},
		"few endpoints":                   {usual, catalog.Count{Services: 3, Endpoints: 19}, catalog.Count{Endpoints: 19}, false},
		"few Services":                    {usual, catalog.Count{Services: 19, Endpoints: 5}, catalog.Count{Services: 19, Endpoints: 5}, false},
		"half, where half is strange":     {catalog.HoldBack{LossPercent: 50, For: 1}, catalog.Count{Services: 20}, catalog.Count{Services: 10}, true},
		"one of a hundred, likewise":      {catalog.HoldBack{LossPercent: 1, For: 1}, catalog.Count{Endpoints: 100}, catalog.Count{Endpoints: 1}, true},
		"all, where everything is true":   {catalog.HoldBack{LossPercent: 1}, catalog.Count{Services: 100}, catalog.Count{Services: 100}, false},
		"all but one where all is asked":  {catalog.HoldBack{LossPercent: 100, For: 1}, catalog.Count{Services: 100}, catalog.Count{Services: 99}, false},
		"before anybody has set anything": {catalog.HoldBack{}, catalog.Count{Services: 100}, catalog.Count{Services: 100}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.settings.Doubts(test.before, test.lost); got != test.want {
				t.Errorf("Doubts(%+v, %+v) = %v, want %v", test.before, test.lost, got, test.want)
			}
		})
	}
}

// many is how many Services there are where losses are tried, each with one endpoint.
const many = 40

// doubtful is a catalog with many Services that holds back, on a clock that stands still. What it has handed out is in seen.
type doubtful struct {
	world
	clock *clocktesting.FakeClock
	seen  map[string]string // endpoints by Service
	last  catalog.Batch
}

func svcName(i int) string { return fmt.Sprintf("svc%02d", i) }

func endpointOf(i int) *discoveryv1.EndpointSlice {
	return sliceOf("slice-"+svcName(i), svcName(i), fmt.Sprintf("10.0.1.%d", i+1))
}

func unready(i int) *discoveryv1.EndpointSlice {
	s := endpointOf(i)
	no := false
	s.Endpoints[0].Conditions.Ready, s.Endpoints[0].Conditions.Serving = &no, &no
	return s
}

func newDoubtful(t *testing.T) *doubtful {
	t.Helper()
	a := newAPI(t)
	a.put(here("a"), cidr("172.30.0.0/16"))
	for i := range many {
		a.put(named(svcName(i)), endpointOf(i))
	}
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	d := &doubtful{world: world{a, a.catalogAt(t, clk.Now)}, clock: clk, seen: map[string]string{}}
	d.SetHoldBack(catalog.HoldBack{LossPercent: 90, For: 30 * time.Second})
	d.until("everything is there", func() bool { return len(d.seen) == many })
	return d
}

// look takes what there is to take.
func (d *doubtful) look() {
	b, complete := d.Take()
	if !complete {
		return
	}
	d.last = b
	for _, e := range b.Entries {
		if e.Service == nil {
			delete(d.seen, e.Name.Name)
			continue
		}
		var ready []string
		for _, s := range e.Slices {
			for _, endpoint := range s.Endpoints {
				if endpoint.Ready {
					ready = append(ready, endpoint.Addr.String())
				}
			}
		}
		slices.Sort(ready)
		d.seen[e.Name.Name] = strings.Join(ready, " ")
	}
}

func (d *doubtful) until(what string, done func() bool) {
	d.t.Helper()
	timeout := time.After(2 * time.Minute)
	for d.look(); !done(); d.look() {
		select {
		case <-d.Changed():
		case <-timeout:
			d.t.Fatalf("%s: not so after two minutes; held: %+v, seen: %v", what, d.last.Held, d.seen)
		}
	}
}

// withEndpoints is how many Services have any, as far as the reader knows.
func (d *doubtful) withEndpoints() int {
	n := 0
	for _, endpoints := range d.seen {
		if endpoints != "" {
			n++
		}
	}
	return n
}

func (d *doubtful) isHeld(lost catalog.Count) func() bool {
	return func() bool { return d.last.Held != nil && d.last.Held.Lost == lost }
}

func (d *doubtful) isOver() bool { return d.last.Held == nil }

// isWhole fails the test unless every Service is handed out with its endpoint.
func (d *doubtful) isWhole(when string) {
	d.t.Helper()
	if len(d.seen) < many || d.withEndpoints() < many {
		d.t.Errorf("%s: %d Services are left, %d of them with endpoints, want %d", when, len(d.seen), d.withEndpoints(), many)
	}
	if all := d.All(); len(all) < many {
		d.t.Errorf("%s: All has %d Services, want %d", when, len(all), many)
	}
	if s, ok := d.Snapshot(); !ok || len(s.Entries) < many {
		d.t.Errorf("%s: the snapshot has %d Services, want %d", when, len(s.Entries), many)
	}
}

// forget has the API server forget every object of a resource, and every watch of it end.
func (d *doubtful) forget(resource string) map[string]object {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.objects[resource]
	d.objects[resource] = map[string]object{}
	return all
}

func TestAnEmptyListIsNotBelieved(t *testing.T) {
	d := newDoubtful(t)
	lost := d.forget("services")
	d.expire("services")
	d.until("held back", d.isHeld(catalog.Count{Services: many, Endpoints: many}))
	d.isWhole("while held")
	want := &catalog.Held{Lost: catalog.Count{Services: many, Endpoints: many}, Before: catalog.Count{Services: many, Endpoints: many},
		Since: d.clock.Now(), Until: d.clock.Now().Add(30 * time.Second)}
	if diff := cmp.Diff(want, d.last.Held); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}

	d.put(named("other"), sliceOf("slice-other", "other", "10.0.2.1"))
	d.until("an unrelated change", func() bool { return d.seen["other"] == "10.0.2.1" })
	d.put(here("b"))
	d.until("a change of the world", func() bool { return d.last.World.Node.Zone == "b" })
	d.isWhole("after a change of the world")

	for name, o := range lost {
		if name != "ns/svc07" {
			d.put(o)
		}
	}
	// The doubt ends while the last of them are still on their way.
	d.until("all but the one that did not come back, and the new one, have endpoints", func() bool {
		return d.isOver() && d.seen["svc07"] == "" && d.withEndpoints() == many
	})
}

func TestALossThatStaysIsBelieved(t *testing.T) {
	d := newDoubtful(t)
	d.forget("endpointslices")
	d.expire("endpointslices")
	d.until("held back", d.isHeld(catalog.Count{Endpoints: many}))
	d.clock.Step(30*time.Second - 1)
	d.look()
	d.isWhole("until the time is over")
	d.clock.Step(1)
	d.look()
	if !d.isOver() || len(d.seen) != many || d.withEndpoints() > 0 {
		t.Errorf("%d Services still have endpoints (held: %+v)", d.withEndpoints(), d.last.Held)
	}
	d.put(endpointOf(1))
	d.until("an endpoint is new", func() bool { return d.withEndpoints() == 1 })
}

func TestALossInPiecesIsPutBack(t *testing.T) {
	for name, lose := range map[string]func(d *doubtful, i int){
		"Services are deleted":     func(d *doubtful, i int) { d.remove(named(svcName(i)), false) },
		"slices are deleted":       func(d *doubtful, i int) { d.remove(endpointOf(i), false) },
		"endpoints become unready": func(d *doubtful, i int) { d.put(unready(i)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoubtful(t)
			for i := range many * 9 / 10 {
				if !d.isOver() || d.withEndpoints() != many-i {
					t.Fatalf("after %d losses %d Services have endpoints (held: %+v)", i, d.withEndpoints(), d.last.Held)
				}
				d.clock.Step(100 * time.Millisecond)
				lose(d, i)
				d.until("it is believed, or held back", func() bool { return d.withEndpoints() == many-i-1 || !d.isOver() })
			}
			d.isWhole("when nearly everything was lost")
			lose(d, many-1)
			d.until("that too", func() bool { return d.last.Held != nil && d.last.Held.Lost.Endpoints == many*9/10+1 })
			d.isWhole("when more was lost")
		})
	}
}

func TestASlowLossIsBelieved(t *testing.T) {
	d := newDoubtful(t)
	for i := range many {
		d.clock.Step(time.Second)
		d.remove(named(svcName(i)), false)
		d.until("a Service is gone", func() bool { return len(d.seen) == many-i-1 })
		if !d.isOver() {
			t.Fatalf("held back after %d: %+v", i+1, d.last.Held)
		}
	}
}

func TestWhatIsReplacedIsNotLost(t *testing.T) {
	d := newDoubtful(t)
	for i := range many {
		moved := endpointOf(i)
		moved.Endpoints[0].Addresses[0] = fmt.Sprintf("10.0.3.%d", i+1)
		d.put(moved)
	}
	d.until("everything is elsewhere", func() bool {
		n := 0
		for _, at := range d.seen {
			if strings.HasPrefix(at, "10.0.3.") {
				n++
			}
		}
		return n == many
	})
	if !d.isOver() {
		t.Errorf("held: %+v", d.last.Held)
	}
}

func TestSettingsAreFollowed(t *testing.T) {
	d := newDoubtful(t)
	d.forget("services")
	d.expire("services")
	d.until("held back", func() bool { return !d.isOver() })
	d.SetHoldBack(catalog.HoldBack{LossPercent: 90, For: time.Minute})
	d.clock.Step(59 * time.Second)
	d.look()
	d.isWhole("for longer")
	d.SetHoldBack(catalog.HoldBack{LossPercent: 90})
	d.look()
	if !d.isOver() || len(d.seen) > 0 {
		t.Errorf("%d Services are left though everything is to be believed at once", len(d.seen))
	}
	d.SetHoldBack(catalog.HoldBack{LossPercent: 90, For: time.Minute})
	d.look()
	if !d.isOver() || len(d.seen) > 0 {
		t.Errorf("%d Services are back, though they had been believed to be lost", len(d.seen))
	}
}

func TestListsThatAreEmptyAfterABootAreNotBelieved(t *testing.T) {
	d := newDoubtful(t)
	s, _ := d.Snapshot()
	a := newAPI(t)
	a.put(here("a"), cidr("172.30.0.0/16"))
	clk := d.clock
	after := &doubtful{world: world{a, catalog.New("here", clk.Now)}, clock: clk, seen: map[string]string{}}
	after.SetHoldBack(catalog.HoldBack{LossPercent: 90, For: 30 * time.Second})
	after.Restore(s)
	after.look()
	after.isWholeAs("remembered")
	a.run(t, after.Catalog)
	after.until("held back", after.isHeld(catalog.Count{Services: many, Endpoints: many}))
	after.isWhole("while held")
	clk.Step(30 * time.Second)
	after.look()
	if len(after.seen) > 0 || !after.isOver() {
		t.Errorf("%d Services are left", len(after.seen))
	}
}

// isWholeAs fails the test unless every Service is handed out with its endpoint, although nothing was listed.
func (d *doubtful) isWholeAs(what string) {
	d.t.Helper()
	if !d.last.Remembered || d.withEndpoints() != many {
		d.t.Errorf("%s: %d Services with endpoints, want %d", what, d.withEndpoints(), many)
	}
}
