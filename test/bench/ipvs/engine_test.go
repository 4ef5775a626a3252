package ipvs

import (
	"net/netip"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

var (
	serviceRange = netip.MustParsePrefix("10.96.0.0/16")
	podRange     = netip.MustParsePrefix("10.244.0.0/16")
)

// engine is an engine on a node, as the agent drives it.
type engine struct {
	*ipvs.Engine
	node  *cluster.Node
	table *forwarding.Table
}

// newEngine looks at what the node has, and writes nothing.
func newEngine(b *testing.B, node *cluster.Node) *engine {
	b.Helper()
	e := &engine{node: node, table: forwarding.NewTable()}
	e.do(b, func() error {
		tools, err := xtables.Probe(b.Context())
		if err != nil {
			return err
		}
		if err := ipvs.Probe(b.Context(), tools, "rr"); err != nil {
			return err
		}
		release, err := virtualserver.Release()
		if err != nil {
			return err
		}
		// They are set before the first virtual server, as the agent does.
		if _, err := conntrack.Apply("/", virtualserver.Writes(release, false)); err != nil {
			return err
		}
		own, err := addresses.List()
		if err != nil {
			return err
		}
		e.Engine, err = ipvs.New(tools, ipvs.Settings{
			MarkBit: 14, Pods: xtables.Pods{CIDRs: []netip.Prefix{podRange}}, ServiceCIDRs: []netip.Prefix{serviceRange},
			NodeAddresses: node.Addresses(), Scheduler: "rr", DrainTimeout: time.Hour,
		}, clock.RealClock{})
		if err != nil {
			return err
		}
		e.SetAddresses(own)
		return nil
	})
	b.Cleanup(func() { _ = e.Close() })
	return e
}

func (e *engine) do(b *testing.B, f func() error) {
	b.Helper()
	if err := e.node.Do(f); err != nil {
		b.Fatal(err)
	}
}

// set computes Service i and returns what changes in the forwarding table.
func (e *engine) set(i, generation int) []forwarding.Change {
	svc, slices := decoded(i, generation)
	ports, _ := forwarding.Compute(svc, slices, &forwarding.Node{
		ServiceCIDRs: []netip.Prefix{serviceRange}, DetectsPods: [2]bool{true, false},
	})
	return e.table.Update(svc.Name, svc.Created, ports)
}

// fill writes the first n Services, and returns how long that took.
func (e *engine) fill(b *testing.B, n int) time.Duration {
	b.Helper()
	start := time.Now()
	var changes []forwarding.Change
	for i := range n {
		changes = append(changes, e.set(i, 0)...)
	}
	e.do(b, func() error {
		_, err := e.Apply(b.Context(), changes)
		return err
	})
	return time.Since(start)
}

// change follows an endpoint that is replaced, to the end: the one that left, which has no connections, is gone. It returns
// how long that took.
func (e *engine) change(b *testing.B, i, generation int) time.Duration {
	b.Helper()
	start := time.Now()
	changes := e.set(i, generation)
	e.do(b, func() error {
		if _, err := e.Apply(b.Context(), changes); err != nil {
			return err
		}
		_, _, err := e.Drain(b.Context())
		return err
	})
	return time.Since(start)
}
