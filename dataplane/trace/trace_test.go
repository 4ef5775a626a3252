package trace_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/trace"
)

var (
	nodeAddress = netip.MustParseAddr("192.0.2.1")
	podNetwork  = netip.MustParsePrefix("10.0.0.0/8")
)

// world has a Service with two endpoints, one of them here, a load balancer that admits few, and a node port.
func world(change func(*forwarding.Service)) (*forwarding.Table, trace.Node) {
	node := trace.Node{
		Addresses: []netip.Addr{nodeAddress, netip.MustParseAddr("127.0.0.1")}, PodCIDRs: []netip.Prefix{podNetwork},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")},
	}
	svc := &forwarding.Service{
		Name:            types.NamespacedName{Namespace: "shop", Name: "web"},
		ClusterIPs:      []netip.Addr{netip.MustParseAddr("172.30.0.1")},
		LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1")},
		SourceRanges:    []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		Ports:           []forwarding.Port{{Name: "http", Protocol: forwarding.TCP, Port: 80, NodePort: 30080}},
	}
	change(svc)
	ports, _ := forwarding.Compute(svc, []*forwarding.Slice{{
		Ports: []forwarding.SlicePort{{Name: "http", Protocol: forwarding.TCP, Port: 8080}},
		Endpoints: []forwarding.Endpoint{
			{Addr: netip.MustParseAddr("10.0.0.1"), Ready: true, Local: true}, {Addr: netip.MustParseAddr("10.0.1.1"), Ready: true},
		},
	}}, &forwarding.Node{Addresses: []netip.Addr{nodeAddress}, ServiceCIDRs: node.ServiceCIDRs, DetectsPods: [2]bool{true, true}})
	table := forwarding.NewTable()
	table.Update(svc.Name, 0, ports)
	return table, node
}

func TestDecide(t *testing.T) {
	same := func(*forwarding.Service) {}
	local := func(s *forwarding.Service) { s.ExternalLocal = true }
	tests := map[string]struct {
		service  func(*forwarding.Service)
		node     func(*trace.Node)
		from, to string
		// want is the verdict, the backends and whether they see the node, and says a piece of what is to be said.
		want, says string
	}{
		"pod to a cluster IP":           {service: same, from: "10.0.0.9", to: "172.30.0.1:80", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Never", says: "172.30.0.1:80/tcp is the cluster IP of shop/web:http"},
		"endpoint to its own Service":   {service: same, from: "10.0.0.1", to: "172.30.0.1:80", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Hairpin", says: "only where the client reaches itself"},
		"node to a cluster IP":          {service: same, from: "192.0.2.1", to: "172.30.0.1:80", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Always", says: "the client is no pod of this node"},
		"another port of a cluster IP":  {service: same, from: "10.0.0.9", to: "172.30.0.1:81", want: "Reject", says: "172.30.0.1 has no port 81/tcp; it has 80/tcp of shop/web"},
		"a cluster IP of nobody":        {service: same, from: "10.0.0.9", to: "172.30.0.2:80", want: "Reject", says: "no Service has it"},
		"allowed source":                {service: same, from: "198.51.100.1", to: "203.0.113.1:80", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Always", says: "198.51.100.1 is in the networks that may connect"},
		"source that is not allowed":    {service: same, from: "198.51.101.1", to: "203.0.113.1:80", want: "Drop", says: "198.51.101.1 is in none of the networks that may connect: 198.51.100.0/24"},
		"node port":                     {service: same, from: "198.51.101.1", to: "192.0.2.1:30080", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Always", says: "is the node port of shop/web:http"},
		"node port, Local":              {service: local, from: "198.51.101.1", to: "192.0.2.1:30080", want: "Forward 10.0.0.1:8080 Never", says: "Local: only endpoints on this node"},
		"node port, Local, from a pod":  {service: local, from: "10.0.0.9", to: "192.0.2.1:30080", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Never", says: "Cluster: every endpoint"},
		"node port at loopback":         {service: same, from: "127.0.0.1", to: "127.0.0.1:30080", want: "Untouched", says: "does not open loopback"},
		"node port at loopback, opened": {service: same, node: func(n *trace.Node) { n.LocalhostNodePorts = true }, from: "127.0.0.1", to: "127.0.0.1:30080", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Always", says: "is the node itself"},
		"node port in other networks":   {service: same, node: func(n *trace.Node) { n.NodePortAddresses = []netip.Prefix{podNetwork} }, from: "198.51.101.1", to: "192.0.2.1:30080", want: "Untouched", says: "it is in none of spec.nodePorts.addresses"},
		"another port of the node":      {service: same, from: "198.51.101.1", to: "192.0.2.1:22", want: "Untouched", says: "no Service has node port 22/tcp"},
		"another port of a load balancer": {service: same, from: "198.51.100.1", to: "203.0.113.1:81", want: "Untouched",
			says: "not touched"},
		"another port of a load balancer, IPVS": {service: same, node: func(n *trace.Node) { n.IPVS = true }, from: "198.51.100.1", to: "203.0.113.1:81", want: "Reject",
			says: "belongs to the node with all its ports"},
		"excluded, IPVS": {service: same, node: func(n *trace.Node) {
			n.IPVS = true
			n.ExcludeCIDRs = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		},
			from: "198.51.100.1", to: "203.0.113.1:80", want: "Untouched", says: "spec.ipvs.excludeCIDRs"},
		"served by another proxy": {service: func(s *forwarding.Service) { s.Foreign = true }, from: "10.0.0.9", to: "172.30.0.1:80", want: "Untouched", says: "another proxy serves"},
		"affinity":                {service: func(s *forwarding.Service) { s.AffinitySeconds = 60 }, from: "10.0.0.9", to: "172.30.0.1:80", want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Never", says: "in the last 60 seconds"},
		"no endpoint":             {service: func(s *forwarding.Service) { s.Ports[0].Name = "other" }, from: "10.0.0.9", to: "172.30.0.1:80", want: "Reject", says: "has no endpoint that is ready"},
		"pods that cannot be told": {service: same, node: func(n *trace.Node) { n.PodCIDRs, n.PodInterface = nil, "cali+" }, from: "10.0.0.9", to: "172.30.0.1:80",
			want: "Forward 10.0.0.1:8080 10.0.1.1:8080 Always", says: "neither a pod that the node can tell nor the node itself"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			table, node := world(test.service)
			if test.node != nil {
				test.node(&node)
			}
			d := trace.Decide(table, &node, trace.Packet{
				Source: netip.MustParseAddr(test.from), Destination: netip.MustParseAddrPort(test.to), Protocol: forwarding.TCP,
			})
			words := []string{string(d.Verdict)}
			for _, b := range d.Backends {
				words = append(words, b.String())
			}
			words = append(words, string(d.Masquerade))
			if diff := cmp.Diff(test.want, strings.TrimSpace(strings.Join(words, " "))); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			var said strings.Builder
			for _, s := range d.Steps {
				said.WriteString(s.Topic + ": " + s.Text + "\n")
			}
			if !strings.Contains(said.String(), test.says) {
				t.Errorf("nothing about %q in:\n%s", test.says, said.String())
			}
		})
	}
}
