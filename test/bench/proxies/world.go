package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// world is the cluster that all contestants follow, with its Services.
type world struct {
	cluster     *cluster.Cluster
	options     Options
	tell        func(format string, args ...any)
	results     *Results
	contestants []*contestant
	folder      string
	// clusterIPs are those of Services by number, spread over serviceRange as a cluster spreads them; the first n exist.
	clusterIPs []netip.Addr
	n          int
	// generation counts changes of endpoints.
	generation atomic.Int64
}

// Cluster IPs of Services, and addresses of endpoints that are no pods: the server of every seat has all of them.
var (
	serviceRange  = netip.MustParsePrefix("10.96.0.0/16")
	endpointRange = netip.MustParsePrefix("10.200.0.0/13")
)

// maxServices leaves room in serviceRange for what is not by number.
const maxServices = 1<<16 - 1024

func (w *world) prepare(ctx context.Context) (err error) {
	if w.folder, err = w.cluster.ControlPlane().Dir(); err != nil {
		return err
	}
	w.folder = filepath.Join(w.folder, "proxies")
	if err := os.MkdirAll(w.folder, 0o755); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	if w.contestants, err = contestants(w.options, w.folder); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range random.Perm(maxServices) {
		w.clusterIPs = append(w.clusterIPs, nth(serviceRange, n+512))
	}
	return w.cluster.RemoveNode(ctx, "seat")
}

// nth is an address of a network.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	n += int(a[1])<<16 | int(a[2])<<8 | int(a[3])
	return netip.AddrFrom4([4]byte{a[0], byte(n >> 16), byte(n >> 8), byte(n)})
}

func name(i int) string { return fmt.Sprintf("svc-%05d", i) }

// endpoint is the first endpoint of Service i before it changes, and fresh one that no Service had before.
func endpoint(i int) netip.Addr { return nth(endpointRange, 1<<16+i) }

// maxPerService leaves the endpoints of 10,000 Services room in endpointRange.
const maxPerService = 13

// endpoints are all endpoints of Service i.
func (w *world) endpoints(i int) []netip.Addr {
	all := []netip.Addr{endpoint(i)}
	for j := range w.options.PerService - 1 {
		all = append(all, nth(endpointRange, 3<<17+i*(w.options.PerService-1)+j))
	}
	return all
}

func (w *world) fresh() netip.Addr {
	return nth(endpointRange, 1<<17+int(w.generation.Add(1)%(1<<16)))
}

// slice is the EndpointSlice of a Service. Its endpoints are on no node of the cluster.
func slice(service string, endpoints ...netip.Addr) *discoveryv1.EndpointSlice {
	return churn.Slice(metav1.NamespaceDefault, service, "elsewhere", time.Now(), endpoints...)
}

// grow creates Services until there are n.
func (w *world) grow(ctx context.Context, n int) error {
	var services, slices []client.Object
	for i := w.n; i < n; i++ {
		services = append(services, churn.Service(metav1.NamespaceDefault, name(i), w.clusterIPs[i]))
		slices = append(slices, slice(name(i), w.endpoints(i)...))
	}
	w.n = max(w.n, n)
	return w.create(ctx, slices, services)
}

func (w *world) create(ctx context.Context, lists ...[]client.Object) error {
	for _, objects := range lists {
		if err := churn.Create(ctx, w.cluster.Client(), objects...); err != nil {
			return fmt.Errorf("creating Services: %w", err)
		}
	}
	return nil
}

// move gives a Service other endpoints.
func (w *world) move(ctx context.Context, service string, to ...netip.Addr) error {
	if err := w.cluster.Client().Update(ctx, slice(service, to...)); err != nil {
		return fmt.Errorf("changing the endpoints of Service %s: %w", service, err)
	}
	return nil
}

// What edges consist of: Services with node ports, a large Service, one that loses its only pod, and one of UDP.
const (
	firstNodePort = 30000
	largeService  = "large"
	loneService   = "lone"
	flowService   = "flows"
)

var largeIP, loneIP, flowIP = nth(serviceRange, 300), nth(serviceRange, 301), nth(serviceRange, 302)

// spare is an endpoint that belongs to edges.
func spare(n int) netip.Addr { return nth(endpointRange, 1<<18+n) }

func (w *world) large(generation int) []netip.Addr {
	addrs := make([]netip.Addr, w.options.Endpoints)
	for i := range addrs {
		addrs[i] = spare(1<<14 + generation<<12 + i)
	}
	return addrs
}

func (w *world) createEdges(ctx context.Context) (remove func(context.Context) error, err error) {
	var services, slices []client.Object
	for i := range w.options.NodePorts {
		s := churn.Service(metav1.NamespaceDefault, fmt.Sprintf("port-%04d", i), w.clusterIPs[len(w.clusterIPs)-1-i])
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = firstNodePort + int32(i)
		services, slices = append(services, s), append(slices, slice(s.Name, spare(i)))
	}
	services = append(services, churn.Service(metav1.NamespaceDefault, largeService, largeIP),
		churn.Service(metav1.NamespaceDefault, loneService, loneIP))
	slices = append(slices, slice(largeService, w.large(0)...), slice(loneService, spare(1<<13)))
	flows, flowing := churn.Service(metav1.NamespaceDefault, flowService, flowIP), slice(flowService, spare(1<<13+1))
	flows.Spec.Ports[0].Protocol, flows.Spec.Ports[0].TargetPort = corev1.ProtocolUDP, intstr.FromInt32(churn.EndpointPort)
	flowing.Ports[0].Protocol = new(corev1.ProtocolUDP)
	services, slices = append(services, flows), append(slices, flowing)
	remove = func(ctx context.Context) error {
		drop := func(ctx context.Context, o client.Object) error {
			return client.IgnoreNotFound(w.cluster.Client().Delete(ctx, o))
		}
		return errors.Join(churn.Each(ctx, services, drop), churn.Each(ctx, slices, drop))
	}
	return remove, w.create(ctx, slices, services)
}
