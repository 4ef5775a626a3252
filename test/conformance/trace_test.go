package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/trace"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// traces says where a trace of a packet of a case says anything else than what should become of it. Where the packets are
// sent too, what a trace says is thereby held against what a kernel did.
func (m *mode) traces(c *scenario.Case) error {
	table, _ := c.Table()
	var wrong []error
	for _, p := range c.Packets {
		for _, p := range []*scenario.Packet{p, p.Twin()} {
			if got := m.traced(table, &c.Settings, p); got.String() != p.Want.String() {
				wrong = append(wrong, fmt.Errorf("%s: want %s; traced %s", p, p.Want, got))
			}
		}
	}
	return errors.Join(wrong...)
}

// traced is what a trace says of a packet.
func (m *mode) traced(table *forwarding.Table, s *scenario.Settings, p *scenario.Packet) scenario.Outcome {
	node := &trace.Node{
		IPVS: m.imposes != nil, Addresses: nodeAddresses(), PodCIDRs: s.PodCIDRs, ServiceCIDRs: s.ServiceCIDRs,
		NodePortAddresses: s.NodePortAddresses,
	}
	if p.From == scenario.Node {
		node.Addresses = append(node.Addresses, p.Source) // it is assigned before the packet is sent
	}
	d := trace.Decide(table, node, trace.Packet{Source: p.Source, Destination: p.Destination, Protocol: p.Protocol})
	if d.Verdict != trace.Forward {
		return scenario.Outcome{Verdict: map[trace.Verdict]scenario.Verdict{
			trace.Reject: scenario.Rejected, trace.Drop: scenario.Dropped, trace.Untouched: scenario.Untouched,
		}[d.Verdict]}
	}
	// A hairpin is one at the backend that sent it. Where there are others too, no vector says which is chosen.
	hairpin := d.Masquerade == trace.Hairpin && !slices.ContainsFunc(d.Backends, func(b netip.AddrPort) bool { return b.Addr() != p.Source })
	return scenario.Outcome{Backends: d.Backends, Masquerade: d.Masquerade == trace.Always || hairpin}
}

// readBack compares what the kernel holds for the first packet of a case that is forwarded with what a trace says: it runs
// programs, so it is not done for all of them.
func (m *mode) readBack(ctx context.Context, e engine, c *scenario.Case) error {
	table, _ := c.Table()
	for _, p := range c.Packets {
		if p.Want.Verdict != scenario.Forwarded {
			continue
		}
		held, err := e.Holding(ctx, p.Destination, p.Protocol)
		if err != nil {
			return err
		}
		if len(held.Differences) > 0 {
			return fmt.Errorf("%s: the kernel does not hold what was written: %v", p, held.Differences)
		}
		for _, b := range m.traced(table, &c.Settings, p).Backends {
			if !slices.Contains(held.Backends, b) {
				return fmt.Errorf("%s: the kernel does not lead to %s; it holds %q", p, b, held.Lines)
			}
		}
		return nil
	}
	return nil
}

// TestTrace holds traces against every vector without a kernel, as the modes have to carry it out.
func TestTrace(t *testing.T) {
	cases, err := readVectors()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*mode{"iptables": {}, "IPVS": {imposes: imposedByIPVS}} {
		t.Run(name, func(t *testing.T) {
			for _, c := range cases {
				if err := m.traces(m.withImposed(c)); err != nil {
					t.Errorf("%s: %v", c.Name, err)
				}
			}
		})
	}
}
