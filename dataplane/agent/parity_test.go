package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

func TestServicePortsWithoutLocalEndpointsAreCounted(t *testing.T) {
	everywhere := [...]forwarding.Route{{Pool: forwarding.Cluster}, {Pool: forwarding.Cluster}, {Pool: forwarding.Cluster}}
	inside := [...]forwarding.Route{{Pool: forwarding.Cluster}, {Pool: forwarding.Cluster}, {}}
	for name, test := range map[string]struct {
		frontends []forwarding.Frontend
		want      noLocal
	}{
		"policy Cluster":     {[]forwarding.Frontend{{Kind: forwarding.ClusterIP, Routes: everywhere}}, noLocal{}},
		"source ranges":      {[]forwarding.Frontend{{Kind: forwarding.LoadBalancerIP, Routes: everywhere, Otherwise: forwarding.Drop}}, noLocal{}},
		"no endpoint at all": {[]forwarding.Frontend{{Kind: forwarding.ClusterIP}, {Kind: forwarding.NodePort}}, noLocal{}},
		"internal":           {[]forwarding.Frontend{{Kind: forwarding.ClusterIP, Otherwise: forwarding.Drop}}, noLocal{internal: 1}},
		"external, at two addresses": {[]forwarding.Frontend{
			{Kind: forwarding.ClusterIP, Routes: everywhere},
			{Kind: forwarding.ExternalIP, Routes: inside, Otherwise: forwarding.Drop},
			{Kind: forwarding.NodePort, Routes: inside, Otherwise: forwarding.Drop},
		}, noLocal{external: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			port := &forwarding.ServicePort{Frontends: test.frontends}
			var n noLocal
			n.count(port, +1)
			if diff := cmp.Diff(test.want, n, cmp.AllowUnexported(noLocal{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			n.count(port, -1)
			if n != (noLocal{}) {
				t.Errorf("%+v is left when the port is gone", n)
			}
		})
	}
}
