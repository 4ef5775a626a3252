package render_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/render"
)

// service is a load balancer's, with one local endpoint. Those that are made later are younger.
func service(name, clusterIP string, age int64) corev1.Service {
	return corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(age, 0))},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: clusterIP, HealthCheckNodePort: 30100,
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			Ports:                 []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}},
		},
	}
}

func endpoint(service, address string) discoveryv1.EndpointSlice {
	return discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, NodeName: new("one")}},
	}
}

func objects(services []corev1.Service, endpoints ...discoveryv1.EndpointSlice) *catalog.Objects {
	return &catalog.Objects{
		Node: corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.0.2"}}},
		},
		Services: services, Slices: endpoints,
		ServiceCIDRs: []networkingv1.ServiceCIDR{{Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}}},
	}
}

func TestRules(t *testing.T) {
	web := []corev1.Service{service("web", "10.96.0.1", 1)}
	for name, test := range map[string]struct {
		settings v1alpha1.ProxySettings
		objects  *catalog.Objects
		// has are lines by the programs that read them.
		has     map[string][]string
		leftOut []string
	}{
		"mode iptables": {
			settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}, objects: objects(web, endpoint("web", "10.244.1.9")),
			has: map[string][]string{
				"iptables-restore --noflush": {
					`-A SPROXY-INPUT -p tcp -m tcp --dport 30100 -m comment --comment "service proxy: health check node port" -j ACCEPT`,
					"-A SPROXY-SERVICES -d 10.96.0.0/16 -j SPROXY-OFFCLUSTER",
				},
				"sysctl --load=-": {"net.ipv4.conf.all.route_localnet = 1"},
			},
		},
		"mode IPVS": {
			settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPVS, IPVS: v1alpha1.IPVS{Scheduler: "lc"}},
			objects:  objects(web, endpoint("web", "10.244.1.9")),
			has: map[string][]string{
				"ipvsadm --restore": {"-A -t 10.96.0.1:80 -s lc -b flag-3", "-a -t 192.168.0.2:30080 -r 10.244.1.9:8080 -m -w 1"},
				"ipset restore":     {"add SPROXYVS-4-HOST 10.96.0.1,tcp:80 skbmark 0x4000/0x4000"},
				"ip -batch -":       {"route add local 10.96.0.0/16 dev lo table local proto 211 src 192.168.0.2"},
				"sysctl --load=-":   {"net.ipv4.vs.conntrack = 1"},
			},
		},
		"an endpoint that nobody can reach": {
			settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}, objects: objects(web, endpoint("web", "127.0.0.1")),
			leftOut: []string{"EndpointSlice shop/web-1: endpoints[0].addresses: 127.0.0.1 cannot be reached from other hosts; " +
				"an endpoint must be the address of a pod or host"},
		},
		"two Services at one address": {
			settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
			objects:  objects([]corev1.Service{service("later", "10.96.0.1", 2), service("web", "10.96.0.1", 1)}),
			leftOut: []string{
				"Service shop/later: spec: 10.96.0.1:80/tcp is held by shop/web:http and also claimed by shop/later:http",
				"Service shop/later: spec: node port 30080/tcp is held by shop/web:http and also claimed by shop/later:http",
			},
		},
		"a Service that no API server has seen": {
			settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}, objects: objects([]corev1.Service{service("web", "", 1)}),
			leftOut: []string{"Service shop/web: spec.clusterIP: there is none; an API server would have given it one"},
		},
		"an address without a virtual server": {
			settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPVS, IPVS: v1alpha1.IPVS{ExcludeCIDRs: []string{"10.96.0.0/24"}}},
			objects:  objects(web),
			leftOut:  []string{"Service shop/web: spec: 10.96.0.1:80/tcp lies in one of spec.ipvs.excludeCIDRs and gets no virtual server"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := render.Rules(&test.settings, test.objects)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.leftOut, got.LeftOut); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
			lines := map[string][]string{}
			for _, script := range got.Scripts {
				lines[script.Program] = append(lines[script.Program], script.Lines...)
			}
			for program, some := range test.has {
				for _, line := range some {
					if !slices.Contains(lines[program], line) {
						t.Errorf("%s is not given %q but\n%s", program, line, strings.Join(lines[program], "\n"))
					}
				}
			}
		})
	}
}

func TestRulesNameTheSetting(t *testing.T) {
	_, err := render.Rules(&v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables, NodePorts: v1alpha1.NodePorts{Addresses: []string{"192.168.0.0"}}}, objects(nil))
	if err == nil || !strings.Contains(err.Error(), "node one: spec.nodePorts.addresses[0]") {
		t.Errorf("got %v", err)
	}
}
