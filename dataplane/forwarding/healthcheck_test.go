package forwarding_test

import (
	"net/netip"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

func TestLocalReady(t *testing.T) {
	addr := netip.MustParseAddr
	slice := func(ports int, endpoints ...forwarding.Endpoint) *forwarding.Slice {
		return &forwarding.Slice{Ports: make([]forwarding.SlicePort, ports), Endpoints: endpoints}
	}
	local := func(ip string) forwarding.Endpoint {
		return forwarding.Endpoint{Addr: addr(ip), Ready: true, Serving: true, Local: true}
	}
	remote := local("10.0.1.1")
	remote.Local = false
	draining := forwarding.Endpoint{Addr: addr("10.0.0.9"), Serving: true, Terminating: true, Local: true}
	starting := forwarding.Endpoint{Addr: addr("10.0.0.8"), Local: true}

	for name, test := range map[string]struct {
		slices []*forwarding.Slice
		want   int
	}{
		"no slice":                              {},
		"two addresses":                         {[]*forwarding.Slice{slice(1, local("10.0.0.1"), local("10.0.0.2"))}, 2},
		"an address in the slices of two ports": {[]*forwarding.Slice{slice(1, local("10.0.0.1")), slice(1, local("10.0.0.1"))}, 1},
		"endpoints of other nodes":              {[]*forwarding.Slice{slice(1, remote, local("10.0.0.1"))}, 1},
		"terminating but serving":               {[]*forwarding.Slice{slice(1, draining)}, 0},
		"not ready":                             {[]*forwarding.Slice{slice(1, starting)}, 0},
		"no port":                               {[]*forwarding.Slice{slice(0, local("10.0.0.1"))}, 0},
		"dual stack": {[]*forwarding.Slice{
			slice(1, local("10.0.0.1"), local("10.0.0.2")), slice(1, local("fd00::1"), local("fd00::2"))}, 2},
		"dual stack, one family behind": {[]*forwarding.Slice{
			slice(1, local("10.0.0.1")), slice(1, local("fd00::1"), local("fd00::2"))}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := forwarding.LocalReady(test.slices); got != test.want {
				t.Errorf("LocalReady() = %d, want %d", got, test.want)
			}
		})
	}
}
