package probe_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/probe"
)

func TestPathsLeadFromTheNode(t *testing.T) {
	table := forwarding.NewTable()
	at, backend, near := netip.MustParseAddrPort("10.96.0.9:80"), netip.MustParseAddrPort("10.0.1.1:8080"), netip.MustParseAddrPort("10.0.0.1:8080")
	id := types.NamespacedName{Namespace: "ns", Name: "web"}
	frontend := func(kind forwarding.Kind, port uint16) forwarding.Frontend {
		f := forwarding.Frontend{Kind: kind, Key: forwarding.Key{Addr: at.Addr(), Port: port, Protocol: forwarding.TCP}}
		f.Routes[forwarding.Host].Pool = forwarding.Local
		return f
	}
	table.Update(id, 0, []*forwarding.ServicePort{
		{ID: forwarding.PortID{Service: id, Port: "http", Protocol: forwarding.TCP}, Cluster: []netip.AddrPort{near, backend}, Local: []netip.AddrPort{near},
			Frontends: []forwarding.Frontend{frontend(forwarding.ClusterIP, 80), frontend(forwarding.ExternalIP, 80)}},
		{ID: forwarding.PortID{Service: id, Port: "more", Protocol: forwarding.TCP}, Frontends: []forwarding.Frontend{frontend(forwarding.ClusterIP, 81)}},
		{ID: forwarding.PortID{Service: id, Port: "dns", Protocol: forwarding.UDP}, Frontends: []forwarding.Frontend{frontend(forwarding.ClusterIP, 80)}},
	})
	want := []probe.Path{{Passed: probe.Passed{Target: target("web", at), At: at}, Backends: []netip.AddrPort{near}}}
	if diff := cmp.Diff(want, probe.Paths(table, []probe.Target{target("web", at)}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAPathIsBrokenOnlyIfItsBackendsAnswer(t *testing.T) {
	front := netip.MustParseAddrPort("10.96.0.9:80")
	a, b := netip.MustParseAddrPort("10.0.0.1:8080"), netip.MustParseAddrPort("10.0.0.2:8080")
	many := make([]netip.AddrPort, 9)
	for i := range many {
		many[i] = a
	}
	tests := map[string]struct {
		backends []netip.AddrPort
		refuses  func(at netip.AddrPort, attempt int) bool
		broken   bool
	}{
		"all answers": {[]netip.AddrPort{a, b}, func(netip.AddrPort, int) bool { return false }, false},
		"the Service does not answer, its backends do": {[]netip.AddrPort{a, b},
			func(at netip.AddrPort, _ int) bool { return at == front }, true},
		"one backend does not answer": {[]netip.AddrPort{a, b},
			func(at netip.AddrPort, _ int) bool { return at == front || at == b }, false},
		"the Service answers at the second attempt": {[]netip.AddrPort{a},
			func(at netip.AddrPort, attempt int) bool { return at == front && attempt == 1 }, false},
		"nobody is behind it":    {nil, func(at netip.AddrPort, _ int) bool { return at == front }, false},
		"too many are behind it": {many, func(at netip.AddrPort, _ int) bool { return at == front }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				prober := probe.Prober{Clock: clock.RealClock{}, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
					at := netip.MustParseAddrPort(address)
					if at == front {
						attempts++
					}
					if test.refuses(at, attempts) {
						return nil, errors.New("refused")
					}
					ours, theirs := net.Pipe()
					_ = theirs.Close()
					return ours, nil
				}}
				path := probe.Path{Passed: probe.Passed{Target: target("web", front), At: front}, Backends: test.backends}
				if got := len(prober.Broken(t.Context(), []probe.Path{path})) > 0; got != test.broken {
					t.Errorf("broken: %t, want %t", got, test.broken)
				}
			})
		})
	}
}
