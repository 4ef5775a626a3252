package ipvs

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// endpointsEach is how many endpoints every Service has.
const endpointsEach = 2

func name(i int) string { return fmt.Sprintf("svc-%05d", i) }

// clusterIP is the address of Service i. The first 256 of the network are for other purposes.
func clusterIP(i int) netip.Addr { return nth([4]byte{10, 96}, 256+i) }

func nth(network [4]byte, n int) netip.Addr {
	network[2], network[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(network)
}

// endpoints are those of Service i. Every generation has another first one.
func endpoints(i, generation int) []netip.Addr {
	addrs := make([]netip.Addr, endpointsEach)
	for j := range addrs {
		addrs[j] = nth([4]byte{10, 201}, 256+i*endpointsEach+j)
	}
	if generation > 0 {
		addrs[0] = nth([4]byte{10, 201}, 1<<15+generation)
	}
	return addrs
}

// decoded is Service i as the engine is told of it.
func decoded(i, generation int) (*forwarding.Service, []*forwarding.Slice) {
	slice := &forwarding.Slice{Ports: []forwarding.SlicePort{{Name: "http", Protocol: forwarding.TCP, Port: churn.EndpointPort}}}
	for _, addr := range endpoints(i, generation) {
		slice.Endpoints = append(slice.Endpoints, forwarding.Endpoint{Addr: addr, Ready: true, Serving: true})
	}
	return &forwarding.Service{
		Name:       types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: name(i)},
		ClusterIPs: []netip.Addr{clusterIP(i)},
		Ports:      []forwarding.Port{{Name: "http", Protocol: forwarding.TCP, Port: churn.Port}},
	}, []*forwarding.Slice{slice}
}

// object is the EndpointSlice of Service i.
func object(i, generation int) *discoveryv1.EndpointSlice {
	return churn.Slice(metav1.NamespaceDefault, name(i), "nowhere", time.Now(), endpoints(i, generation)...)
}

// create creates the Services from one number to below another.
func create(b *testing.B, c *cluster.Cluster, from, to int) {
	b.Helper()
	var objects []client.Object
	for i := from; i < to; i++ {
		objects = append(objects, object(i, 0), churn.Service(metav1.NamespaceDefault, name(i), clusterIP(i)))
	}
	if err := churn.Create(b.Context(), c.Client(), objects...); err != nil {
		b.Fatal(err)
	}
}
