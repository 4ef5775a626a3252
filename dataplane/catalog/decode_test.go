package catalog_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// withAddresses lets cmp compare addresses and networks. No list and one that is empty mean the same.
func withAddresses() cmp.Options {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func service(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc", CreationTimestamp: metav1.Unix(1000, 0)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "172.30.0.41", ClusterIPs: []string{"172.30.0.41"},
			Ports: []corev1.ServicePort{{Name: "p", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

func slice(change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "svc-abc", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("p"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.1.1"}}},
	}
	if change != nil {
		change(s)
	}
	return s
}

// decoded is what the catalog makes of the plain service, changed by a test.
func decoded(change func(*forwarding.Service)) *forwarding.Service {
	s := &forwarding.Service{
		Name: types.NamespacedName{Namespace: "ns", Name: "svc"}, Created: 1000,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("172.30.0.41")},
		Ports:      []forwarding.Port{{Name: "p", Protocol: forwarding.TCP, Port: 80}},
	}
	if change != nil {
		change(s)
	}
	return s
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// expectProblems compares problems, each written as "Kind namespace/name field: a piece of the message".
func expectProblems(t *testing.T, want []string, got []catalog.Problem) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("problems %v, want %v", got, want)
	}
	for i, p := range got {
		where, piece, _ := strings.Cut(want[i], ": ")
		if there := p.Object.Kind + " " + p.Object.Namespace + "/" + p.Object.Name + " " + p.Field; there != where || !strings.Contains(p.Message, piece) {
			t.Errorf("problem %q, want %q", p, want[i])
		}
		if p.Object.UID == "" || p.Object.APIVersion == "" {
			t.Errorf("problem %v: an event needs the UID and version of its object", p)
		}
	}
}

func TestDecodeService(t *testing.T) {
	local, internalLocal := corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceInternalTrafficPolicyLocal
	ingress := func(all ...corev1.LoadBalancerIngress) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = all }
	}
	for name, tc := range map[string]struct {
		change   func(*corev1.Service)
		want     func(*forwarding.Service)
		problems []string
	}{
		"plain": {nil, nil, nil},
		"dual stack": {func(s *corev1.Service) { s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00::41") },
			func(s *forwarding.Service) { s.ClusterIPs = addrs("172.30.0.41", "fd00::41") }, nil},
		"only the old field": {func(s *corev1.Service) { s.Spec.ClusterIPs = nil }, nil, nil},
		"leading zeros": {func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"172.30.0.041"}
			s.Spec.ExternalIPs = []string{"192.168.099.011"}
			ingress(corev1.LoadBalancerIngress{IP: "001.002.003.004"})(s)
			s.Spec.LoadBalancerSourceRanges = []string{"203.000.113.000/025"}
		}, func(s *forwarding.Service) {
			s.ExternalIPs, s.LoadBalancerIPs, s.SourceRanges = addrs("192.168.99.11"), addrs("1.2.3.4"), prefixes("203.0.113.0/25")
		}, nil},
		"an IPv4 address in IPv6": {func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"::ffff:192.168.99.11"} },
			func(s *forwarding.Service) { s.ExternalIPs = addrs("192.168.99.11") }, nil},
		"bad addresses": {func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"192.168.99.11", "192.168.99", "example.com"}
			ingress(corev1.LoadBalancerIngress{IP: "1.2.3.400"}, corev1.LoadBalancerIngress{IP: "1.2.3.4"})(s)
		}, func(s *forwarding.Service) {
			s.ExternalIPs, s.LoadBalancerIPs = addrs("192.168.99.11"), addrs("1.2.3.4")
		}, []string{"Service ns/svc spec.externalIPs[1]: 192.168.99", "Service ns/svc spec.externalIPs[2]: example.com",
			"Service ns/svc status.loadBalancer.ingress[0].ip: 1.2.3.400"}},
		"ingress": {ingress(
			corev1.LoadBalancerIngress{IP: "1.2.3.4"},
			corev1.LoadBalancerIngress{IP: "1.2.3.5", IPMode: new(corev1.LoadBalancerIPModeVIP)},
			corev1.LoadBalancerIngress{IP: "1.2.3.6", IPMode: new(corev1.LoadBalancerIPModeProxy)},
			corev1.LoadBalancerIngress{Hostname: "lb.example.com"},
		), func(s *forwarding.Service) { s.LoadBalancerIPs = addrs("1.2.3.4", "1.2.3.5") }, nil},
		"source ranges": {func(s *corev1.Service) {
			s.Spec.LoadBalancerSourceRanges = []string{"192.168.0.7/24", " 203.0.113.0/25", "2001:db8::/64 "}
		}, func(s *forwarding.Service) {
			s.SourceRanges = prefixes("192.168.0.0/24", "203.0.113.0/25", "2001:db8::/64")
		}, nil},
		"source ranges, one bad": {func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.168.0.0", "203.0.113.0/25"} },
			func(s *forwarding.Service) { s.SourceRanges = prefixes("203.0.113.0/25") },
			[]string{"Service ns/svc spec.loadBalancerSourceRanges[0]: CIDR"}},
		"source ranges, all bad: closed": {func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"everybody"} },
			func(s *forwarding.Service) { s.SourceRanges = prefixes("0.0.0.0/32", "::/128") },
			[]string{"Service ns/svc spec.loadBalancerSourceRanges[0]: everybody"}},
		"policies": {func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.InternalTrafficPolicy = local, &internalLocal
		},
			func(s *forwarding.Service) { s.ExternalLocal, s.InternalLocal = true, true }, nil},
		"health check node port": {func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, local, 32000
		}, func(s *forwarding.Service) { s.ExternalLocal, s.HealthCheckNodePort = true, 32000 }, nil},
		"health check node port of policy Cluster": {func(s *corev1.Service) {
			s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 32000
		}, nil, nil},
		"affinity": {func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP },
			func(s *forwarding.Service) { s.AffinitySeconds = 10800 }, nil},
		"affinity with a time": {func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(60))}}
		}, func(s *forwarding.Service) { s.AffinitySeconds = 60 }, nil},
		"a time without affinity": {func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityNone
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(60))}}
		}, nil, nil},
		"of another proxy": {func(s *corev1.Service) { s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": ""} },
			func(s *forwarding.Service) { s.Foreign = true }, nil},
		"ports": {func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{
				{Port: 53, Protocol: corev1.ProtocolUDP, NodePort: 30053}, {Name: "s", Port: 1, Protocol: corev1.ProtocolSCTP}, {Name: "d", Port: 65535},
			}
		}, func(s *forwarding.Service) {
			s.Ports = []forwarding.Port{{Protocol: forwarding.UDP, Port: 53, NodePort: 30053},
				{Name: "s", Protocol: forwarding.SCTP, Port: 1}, {Name: "d", Protocol: forwarding.TCP, Port: 65535}}
		}, nil},
		"bad ports": {func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "q", Protocol: "QUIC", Port: 1},
				corev1.ServicePort{Name: "z", Port: 0}, corev1.ServicePort{Name: "n", Port: 81, NodePort: 70000})
		}, func(s *forwarding.Service) {
			s.Ports = append(s.Ports, forwarding.Port{Name: "n", Protocol: forwarding.TCP, Port: 81})
		}, []string{"Service ns/svc spec.ports[1].protocol: QUIC", "Service ns/svc spec.ports[2].port: 0 is not", "Service ns/svc spec.ports[3].nodePort: 70000"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := first(t, service(tc.change))
			if len(b.Entries) != 1 {
				t.Fatalf("entries %v, want one", names(b))
			}
			if diff := cmp.Diff(decoded(tc.want), b.Entries[0].Service, withAddresses()); diff != "" {
				t.Errorf("Service (-want +got):\n%s", diff)
			}
			expectProblems(t, tc.problems, b.Problems)
		})
	}
}

func TestServicesWithoutRules(t *testing.T) {
	for name, change := range map[string]func(*corev1.Service){
		"headless":        func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} },
		"without address": func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil },
		"ExternalName": func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, "", nil
		},
		"ExternalName, addr": func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
	} {
		t.Run(name, func(t *testing.T) {
			if b := first(t, service(change), slice(nil)); len(b.Entries) != 0 && b.Entries[0].Service != nil {
				t.Errorf("entries %v, want none with rules", b.Entries)
			}
		})
	}
}

func TestDecodeSlice(t *testing.T) {
	plain := func() *forwarding.Slice {
		return &forwarding.Slice{
			Ports:     []forwarding.SlicePort{{Name: "p", Protocol: forwarding.TCP, Port: 8080}},
			Endpoints: []forwarding.Endpoint{{Addr: netip.MustParseAddr("10.0.1.1"), Ready: true, Serving: true}},
		}
	}
	endpoint := func(change func(*discoveryv1.Endpoint)) func(*discoveryv1.EndpointSlice) {
		return func(s *discoveryv1.EndpointSlice) { change(&s.Endpoints[0]) }
	}
	like := func(change func(*forwarding.Endpoint)) func(*forwarding.Slice) {
		return func(s *forwarding.Slice) { change(&s.Endpoints[0]) }
	}
	none := func(s *forwarding.Slice) { s.Endpoints = nil }
	for name, tc := range map[string]struct {
		change   func(*discoveryv1.EndpointSlice)
		want     func(*forwarding.Slice)
		problems []string
	}{
		"conditions unset": {nil, nil, nil},
		"conditions set": {endpoint(func(e *discoveryv1.Endpoint) {
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
		}), like(func(e *forwarding.Endpoint) { e.Ready, e.Terminating = false, true }), nil},
		"nothing": {endpoint(func(e *discoveryv1.Endpoint) {
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(false)}
		}), like(func(e *forwarding.Endpoint) { e.Ready, e.Serving = false, false }), nil},
		"here":                   {endpoint(func(e *discoveryv1.Endpoint) { e.NodeName = new("here") }), like(func(e *forwarding.Endpoint) { e.Local = true }), nil},
		"elsewhere":              {endpoint(func(e *discoveryv1.Endpoint) { e.NodeName = new("there") }), nil, nil},
		"only the first address": {endpoint(func(e *discoveryv1.Endpoint) { e.Addresses = append(e.Addresses, "10.0.1.2") }), nil, nil},
		"an address with zeros":  {endpoint(func(e *discoveryv1.Endpoint) { e.Addresses = []string{"010.000.001.001"} }), nil, nil},
		"hints for zones": {endpoint(func(e *discoveryv1.Endpoint) {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "b"}}}
		}), like(func(e *forwarding.Endpoint) { e.ZoneHints = []string{"a", "b"} }), nil},
		"hints for this node": {endpoint(func(e *discoveryv1.Endpoint) {
			e.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "there"}, {Name: "here"}}}
		}), like(func(e *forwarding.Endpoint) { e.NodeHints, e.ThisNode = true, true }), nil},
		"hints for other nodes": {endpoint(func(e *discoveryv1.Endpoint) {
			e.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "there"}}}
		}), like(func(e *forwarding.Endpoint) { e.NodeHints = true }), nil},
		"IPv6": {func(s *discoveryv1.EndpointSlice) {
			s.AddressType, s.Endpoints[0].Addresses = discoveryv1.AddressTypeIPv6, []string{"fd00::1"}
		}, like(func(e *forwarding.Endpoint) { e.Addr = netip.MustParseAddr("fd00::1") }), nil},
		"an address of the other family": {endpoint(func(e *discoveryv1.Endpoint) { e.Addresses = []string{"fd00::1"} }), none,
			[]string{"EndpointSlice ns/svc-abc endpoints[0].addresses: IPv4"}},
		"no address":        {endpoint(func(e *discoveryv1.Endpoint) { e.Addresses = nil }), none, []string{"EndpointSlice ns/svc-abc endpoints[0].addresses: needed"}},
		"no IP address":     {endpoint(func(e *discoveryv1.Endpoint) { e.Addresses = []string{"pod"} }), none, []string{"EndpointSlice ns/svc-abc endpoints[0].addresses: pod"}},
		"loopback":          {endpoint(func(e *discoveryv1.Endpoint) { e.Addresses = []string{"127.0.0.1"} }), none, []string{"EndpointSlice ns/svc-abc endpoints[0].addresses: 127.0.0.1"}},
		"a protocol unset":  {func(s *discoveryv1.EndpointSlice) { s.Ports[0].Protocol = nil }, nil, nil},
		"a name left empty": {func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = new("") }, func(s *forwarding.Slice) { s.Ports[0].Name = "" }, nil},
		"a name unset":      {func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = nil }, func(s *forwarding.Slice) { s.Ports = nil }, []string{"EndpointSlice ns/svc-abc ports[0]: name"}},
		"a port unset":      {func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = nil }, func(s *forwarding.Slice) { s.Ports = nil }, []string{"EndpointSlice ns/svc-abc ports[0]: port"}},
		"port 0":            {func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = new(int32(0)) }, func(s *forwarding.Slice) { s.Ports = nil }, []string{"EndpointSlice ns/svc-abc ports[0]: port"}},
		"a strange protocol": {func(s *discoveryv1.EndpointSlice) { s.Ports[0].Protocol = new(corev1.Protocol("QUIC")) },
			func(s *forwarding.Slice) { s.Ports = nil }, []string{"EndpointSlice ns/svc-abc ports[0].protocol: QUIC"}},
	} {
		t.Run(name, func(t *testing.T) {
			want := plain()
			if tc.want != nil {
				tc.want(want)
			}
			b := first(t, service(nil), slice(tc.change))
			if len(b.Entries) != 1 || len(b.Entries[0].Slices) != 1 {
				t.Fatalf("entries %v, want one with one slice", b.Entries)
			}
			if diff := cmp.Diff(want, b.Entries[0].Slices[0], withAddresses()); diff != "" {
				t.Errorf("slice (-want +got):\n%s", diff)
			}
			expectProblems(t, tc.problems, b.Problems)
		})
	}
}

func TestSlicesThatBelongToNobody(t *testing.T) {
	for name, change := range map[string]func(*discoveryv1.EndpointSlice){
		"names for addresses": func(s *discoveryv1.EndpointSlice) {
			s.AddressType, s.Endpoints[0].Addresses = discoveryv1.AddressTypeFQDN, []string{"example.com"}
		},
		"no Service":           func(s *discoveryv1.EndpointSlice) { s.Labels = nil },
		"another Service":      func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelServiceName] = "other" },
		"in another namespace": func(s *discoveryv1.EndpointSlice) { s.Namespace = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			for _, e := range first(t, service(nil), slice(change)).Entries {
				if len(e.Slices) > 0 {
					t.Errorf("%s has a slice that is not its own", e.Name)
				}
			}
		})
	}
}

func TestWorld(t *testing.T) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{corev1.LabelTopologyZone: "a"}},
		Spec: corev1.NodeSpec{
			PodCIDR: "10.0.1.0/24", PodCIDRs: []string{"10.0.1.0/24", "fd00:1::/64", "no network"},
			Taints: []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}},
		},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "here"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.7"},
			{Type: corev1.NodeInternalIP, Address: "192.168.0.2"}, {Type: corev1.NodeInternalIP, Address: "192.168.1.2"},
			{Type: corev1.NodeExternalIP, Address: "2001:db8::7"},
		}},
	}
	b := follow(t, node,
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"172.30.0.0/16", "fd00:30::/112"}}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"172.29.0.0/16", "172.30.0.0/16"}}},
	).take()
	want := catalog.World{
		Node: catalog.Node{
			Zone: "a", PodCIDRs: prefixes("10.0.1.0/24", "fd00:1::/64"), Addresses: addrs("192.168.0.2", "2001:db8::7"), Leaving: true,
		},
		ServiceCIDRs: prefixes("172.29.0.0/16", "172.30.0.0/16", "fd00:30::/112"),
	}
	if diff := cmp.Diff(want, b.World, withAddresses()); diff != "" {
		t.Errorf("world (-want +got):\n%s", diff)
	}
	if !b.WorldChanged {
		t.Error("a new world is not said to have changed")
	}
}
