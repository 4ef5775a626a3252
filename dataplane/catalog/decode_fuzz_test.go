package catalog

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// FuzzObjects decodes objects that no API server would let pass, and computes what becomes of them: what is left out is a
// problem in words, and what is left is sound.
func FuzzObjects(f *testing.F) {
	f.Add([]byte(`{"metadata":{"namespace":"default","name":"web"},"spec":{"type":"LoadBalancer","clusterIP":"172.30.0.1",
		"clusterIPs":["172.30.0.1","fd00::1"],"externalIPs":["198.51.100.1","::ffff:198.51.100.1","127.0.0.1","x"],
		"loadBalancerSourceRanges":["10.0.0.0/8"," ::/0 ","1.2.3.4/99"],"sessionAffinity":"ClientIP",
		"sessionAffinityConfig":{"clientIP":{"timeoutSeconds":-1}},"externalTrafficPolicy":"Local","healthCheckNodePort":99999,
		"ports":[{"name":"http","port":80,"nodePort":30080},{"name":"http","port":80,"protocol":"UDP","nodePort":-1},{"port":99999}]},
		"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.2"},{"ip":"0.0.0.0"},{"hostname":"x"}]}}}`),
		[]byte(`{"metadata":{"namespace":"default","name":"web-1","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
		"ports":[{"name":"http","port":8080},{"name":"","port":0},{}],"endpoints":[{"addresses":["10.180.0.1"],"nodeName":"node"},
		{"addresses":["127.0.0.1"]},{"addresses":[]},{"addresses":["fd00::1"],"conditions":{"ready":false,"serving":true,"terminating":true},
		"hints":{"forZones":[{"name":"a"}],"forNodes":[{"name":"node"}]}}]}`),
		[]byte(`{"metadata":{"name":"node"},"spec":{"podCIDR":"10.180.0.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.168.0.1"}]}}`),
		[]byte(`{"spec":{"cidrs":["172.30.0.0/16","fd00::/108","x"]}}`))
	f.Add([]byte(`{"spec":{"clusterIP":"None"}}`), []byte(`{"addressType":"FQDN"}`), []byte(`{}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, service, endpointSlice, node, cidr []byte) {
		var svc corev1.Service
		var es discoveryv1.EndpointSlice
		var no corev1.Node
		var sc networkingv1.ServiceCIDR
		if json.Unmarshal(service, &svc) != nil || json.Unmarshal(endpointSlice, &es) != nil ||
			json.Unmarshal(node, &no) != nil || json.Unmarshal(cidr, &sc) != nil {
			return
		}
		c := New("node", time.Now)
		s, sl := decodeService(&svc), decodeSlice(&es, "node")
		for _, p := range append(s.problems, sl.problems...) {
			if p.Field == "" || p.Message == "" {
				t.Errorf("a problem without words: %+v", p)
			}
		}
		c.setServiceLocked(s)
		c.setSliceLocked(sl)
		place := forwarding.Node{ServiceCIDRs: *decodeServiceCIDR(&sc).value, Addresses: decodeNode(&no).value.Addresses}
		if s.value == nil {
			return
		}
		var slices []*forwarding.Slice
		if sl.value != nil {
			slices = append(slices, &sl.value.Slice)
		}
		ports, _ := forwarding.Compute(s.value, slices, &place)
		for _, change := range forwarding.NewTable().Update(s.value.Name, s.value.Created, ports) {
			expectSound(t, change.New)
		}
	})
}

// expectSound looks for what no engine could write.
func expectSound(t *testing.T, p *forwarding.ServicePort) {
	t.Helper()
	for _, f := range p.Frontends {
		if f.Key.Addr.IsValid() && (f.Key.Addr.Is6() != p.ID.IPv6 || f.Key.Addr.Is4In6() || f.Key.Addr.Zone() != "") {
			t.Errorf("a frontend of the other family: %+v", f.Key)
		}
		for _, source := range f.Sources {
			if !source.IsValid() || source.Addr().Is6() != p.ID.IPv6 {
				t.Errorf("a source of the other family: %s", source)
			}
		}
	}
	for _, pool := range []forwarding.Pool{forwarding.Cluster, forwarding.Local} {
		for _, b := range p.Backends(pool) {
			if !b.IsValid() || b.Port() == 0 || b.Addr().Is6() != p.ID.IPv6 || b.Addr() == netip.IPv4Unspecified() {
				t.Errorf("a backend that cannot be: %s", b)
			}
		}
	}
}
