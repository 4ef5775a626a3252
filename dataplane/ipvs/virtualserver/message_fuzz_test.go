package virtualserver

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// FuzzServers reads messages about virtual and real servers that no kernel would send. What is taken for a virtual server
// reads the same when it is written again.
func FuzzServers(f *testing.F) {
	for _, at := range []string{"172.30.0.1:80", "[fd00::1]:53"} {
		at := netip.MustParseAddrPort(at)
		server := New(At(at, forwarding.TCP), "rr", 60)
		f.Add((&Operation{Action: AddReal, Server: server, Real: RealServer{Addr: at, Weight: 1}}).encode())
		f.Add((&Operation{Action: AddServer, Server: server}).encode())
	}
	f.Add((&Operation{Action: AddServer, Server: New(Marked(0x1234, true), "sh", 0)}).encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		if backend, ok := decodeReal(body, false); ok && !backend.Addr.Addr().IsValid() {
			t.Errorf("a real server without an address: %+v", backend)
		}
		server, ok := decodeServer(body)
		if !ok {
			return
		}
		if server.Mark == 0 && !server.Addr.IsValid() {
			t.Fatalf("a virtual server with neither an address nor a mark: %+v", server)
		}
		if server.Mark != 0 || server.Addr.Is6() != server.IPv6 {
			return
		}
		again, ok := decodeServer((&Operation{Action: AddServer, Server: server}).encode())
		if diff := cmp.Diff(server, again, cmpopts.EquateComparable(netip.Addr{})); !ok || diff != "" {
			t.Errorf("it reads otherwise when it is written again: %s", diff)
		}
	})
}
