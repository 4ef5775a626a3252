package conformance_test

import (
	_ "embed"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

//go:embed vectors.txt
var vectors string

func readVectors() ([]*scenario.Case, error) { return scenario.Read(strings.NewReader(vectors)) }

// nodeAddresses are the addresses of the node, of both families.
func nodeAddresses() []netip.Addr {
	other := netip.MustParseAddr("192.168.1.2")
	return []netip.Addr{scenario.NodeAddress, scenario.Twin(scenario.NodeAddress), other, scenario.Twin(other)}
}

// TestTable holds the forwarding table against the vectors, without a kernel.
func TestTable(t *testing.T) {
	cases, err := readVectors()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.Name] {
			t.Errorf("there are two cases named %q", c.Name)
		}
		seen[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			table, _ := c.Table()
			for _, p := range c.Packets {
				for _, p := range []*scenario.Packet{p, p.Twin()} {
					slices.SortFunc(p.Want.Backends, netip.AddrPort.Compare)
					got := c.Settings.Expect(table, p, nodeAddresses())
					if diff := cmp.Diff(p.Want.String(), got.String()); diff != "" {
						t.Errorf("%s (-want +got):\n%s", p, diff)
					}
				}
			}
		})
	}
}
