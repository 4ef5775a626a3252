package forwarding_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// What may keep its flows is more than what gets new ones.
func TestMayServe(t *testing.T) {
	endpoint := func(ip string, change func(*forwarding.Endpoint)) forwarding.Endpoint {
		e := forwarding.Endpoint{Addr: netip.MustParseAddr(ip), Ready: true, Serving: true}
		change(&e)
		return e
	}
	here := endpoint("10.0.0.1", func(e *forwarding.Endpoint) { e.Local, e.ZoneHints = true, []string{"a"} })
	there := endpoint("10.0.1.1", func(e *forwarding.Endpoint) { e.ZoneHints = []string{"b"} })
	draining := endpoint("10.0.2.1", func(e *forwarding.Endpoint) { e.Ready, e.Terminating = false, true })
	broken := endpoint("10.0.3.1", func(e *forwarding.Endpoint) { e.Ready, e.Serving = false, false })
	listeners := func(ips ...string) []netip.AddrPort {
		var found []netip.AddrPort
		for _, ip := range ips {
			found = append(found, netip.AddrPortFrom(netip.MustParseAddr(ip), 5353))
		}
		return found
	}

	for name, test := range map[string]struct {
		protocol      forwarding.Protocol
		internalLocal bool
		zone          string
		endpoints     []forwarding.Endpoint

		usable, mayServe []netip.AddrPort
	}{
		"all get new flows": {protocol: forwarding.UDP, endpoints: []forwarding.Endpoint{here, there, broken},
			mayServe: listeners("10.0.0.1", "10.0.1.1")},
		"one is in another zone": {protocol: forwarding.UDP, zone: "a", endpoints: []forwarding.Endpoint{there, here},
			usable: listeners("10.0.0.1", "10.0.1.1"), mayServe: listeners("10.0.0.1", "10.0.1.1")},
		"one is terminating but serves": {protocol: forwarding.UDP, endpoints: []forwarding.Endpoint{here, draining},
			usable: listeners("10.0.0.1", "10.0.2.1"), mayServe: listeners("10.0.0.1", "10.0.2.1")},
		"policy wants local ones": {protocol: forwarding.UDP, internalLocal: true, endpoints: []forwarding.Endpoint{here, there},
			usable: listeners("10.0.0.1", "10.0.1.1"), mayServe: listeners("10.0.0.1", "10.0.1.1")},
		"nobody serves": {protocol: forwarding.UDP, endpoints: []forwarding.Endpoint{broken}},
		"TCP never asks": {protocol: forwarding.TCP, zone: "a", endpoints: []forwarding.Endpoint{here, there},
			mayServe: listeners("10.0.0.1")},
	} {
		t.Run(name, func(t *testing.T) {
			svc := &forwarding.Service{
				Name:          types.NamespacedName{Namespace: "kube-system", Name: "dns"},
				ClusterIPs:    []netip.Addr{netip.MustParseAddr("172.30.0.10")},
				Ports:         []forwarding.Port{{Protocol: test.protocol, Port: 53}},
				InternalLocal: test.internalLocal,
			}
			slice := &forwarding.Slice{
				Ports: []forwarding.SlicePort{{Protocol: test.protocol, Port: 5353}}, Endpoints: test.endpoints,
			}
			ports, problems := forwarding.Compute(svc, []*forwarding.Slice{slice}, &forwarding.Node{Zone: test.zone})
			if len(ports) != 1 || len(problems) != 0 {
				t.Fatalf("Compute() = %v, %v, want one port and no problem", ports, problems)
			}
			compare := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
			if diff := cmp.Diff(test.usable, ports[0].Usable, compare); diff != "" {
				t.Errorf("Usable (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.mayServe, ports[0].MayServe(), compare); diff != "" {
				t.Errorf("MayServe() (-want +got):\n%s", diff)
			}
		})
	}
}

// A change in who may keep flows is a change, although nobody gets new ones differently.
func TestTableReportsUsable(t *testing.T) {
	name := types.NamespacedName{Namespace: "kube-system", Name: "dns"}
	key := forwarding.Key{Addr: netip.MustParseAddr("172.30.0.10"), Port: 53, Protocol: forwarding.UDP}
	port := func(usable ...netip.AddrPort) *forwarding.ServicePort {
		return &forwarding.ServicePort{
			ID:        forwarding.PortID{Service: name, Protocol: forwarding.UDP},
			Cluster:   []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53")},
			Usable:    usable,
			Frontends: []forwarding.Frontend{{Key: key}},
		}
	}
	table := forwarding.NewTable()
	table.Update(name, 0, []*forwarding.ServicePort{port(netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.1.1:53"))})

	after := port()
	if changes := table.Update(name, 0, []*forwarding.ServicePort{after}); len(changes) != 1 || changes[0].New != after {
		t.Errorf("Update() = %v, want the port without its drained endpoint", changes)
	}
	if holder := table.Holder(key); holder != after {
		t.Errorf("Holder() = %v, want %v", holder, after)
	}
	table.Update(name, 0, nil)
	if holder := table.Holder(key); holder != nil {
		t.Errorf("Holder() = %v after the Service is gone, want none", holder)
	}
}
