package forwarding_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// These tests keep what a change and a Service cost where it is: they fail when a count, which is the same on every
// machine, grows by more than a fifth. A higher limit needs a reason that is worth it to every node of every cluster.

// crowd computes n Services with some endpoints each, on a node that tells pods by their addresses.
type crowd struct {
	table *forwarding.Table
	node  forwarding.Node
}

func newCrowd(services, endpoints int) *crowd {
	c := &crowd{table: forwarding.NewTable(), node: forwarding.Node{
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, DetectsPods: [2]bool{true, true},
	}}
	for i := range services {
		c.set(i, endpoints, 0)
	}
	return c
}

// set gives Service i endpoints, other ones in every generation.
func (c *crowd) set(i, endpoints, generation int) []forwarding.Change {
	svc := &forwarding.Service{
		Name:       types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("svc-%05d", i)},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})},
		Ports:      []forwarding.Port{{Name: "http", Protocol: forwarding.TCP, Port: 80}},
	}
	slice := &forwarding.Slice{Ports: []forwarding.SlicePort{{Name: "http", Protocol: forwarding.TCP, Port: 8080}}}
	for e := range endpoints {
		n := i*endpoints + e
		slice.Endpoints = append(slice.Endpoints, forwarding.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, 128 + byte(generation), byte(n >> 8), byte(n)}), Ready: true, Serving: true})
	}
	ports, _ := forwarding.Compute(svc, []*forwarding.Slice{slice}, &c.node)
	return c.table.Update(svc.Name, svc.Created, ports)
}

func TestWhatAChangeAllocates(t *testing.T) {
	const limit = 22 // 18 when this was written
	for name, services := range map[string]int{"among 10 Services": 10, "among 10,000": 10_000} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(services, 2)
			generation := 0
			allocations := testing.AllocsPerRun(100, func() {
				generation++
				if changes := c.set(services/2, 2, generation%64); len(changes) != 1 {
					t.Fatalf("%d changes", len(changes))
				}
			})
			t.Logf("%.0f allocations", allocations)
			if allocations > limit {
				t.Errorf("%.0f allocations for one change, and %d are allowed", allocations, limit)
			}
		})
	}
}

func TestWhatTheTableKeeps(t *testing.T) {
	for name, test := range map[string]struct {
		services, endpoints int
		limit               uint64 // bytes for each Service
	}{
		"one endpoint each":  {10_000, 1, 600},  // 493 when this was written
		"ten endpoints each": {2_000, 10, 1200}, // 1013 when this was written
	} {
		t.Run(name, func(t *testing.T) {
			before := inUse()
			c := newCrowd(test.services, test.endpoints)
			each := (inUse() - before) / uint64(test.services)
			runtime.KeepAlive(c)
			t.Logf("%d bytes for each Service", each)
			if each > test.limit {
				t.Errorf("%d bytes for each Service, and %d are allowed", each, test.limit)
			}
		})
	}
}

// inUse is how much of the heap is reachable.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
