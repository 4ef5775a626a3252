// Package churn fills test clusters with Services whose endpoints need not be pods, as many as a large cluster has, and
// changes them as fast as such a cluster does. Its tests see to it that connections to Services that do not change never
// notice.
package churn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The ports of the Services that this package makes, and of their endpoints.
const (
	Port         = 80
	EndpointPort = 8080
)

const portName = "http"

// Service is a Service without a selector at a cluster IP, or at one that the API server chooses where that is not valid.
func Service(namespace, name string, clusterIP netip.Addr) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: portName, Port: Port}}},
	}
	if clusterIP.IsValid() {
		s.Spec.ClusterIP = clusterIP.String()
	}
	return s
}

// Slice is the EndpointSlice of a Service of Service, with IPv4 endpoints on a node. It says that the endpoints changed
// now, as the endpoint controller does, so that proxies can measure how long they take to follow.
func Slice(namespace, service, node string, now time.Time, endpoints ...netip.Addr) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: service,
			Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "churn"},
			Annotations: map[string]string{
				corev1.EndpointsLastChangeTriggerTime: now.UTC().Format(time.RFC3339Nano),
			},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{
			Name: new(portName), Port: new(int32(EndpointPort)), Protocol: new(corev1.ProtocolTCP),
		}},
	}
	for _, e := range endpoints {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{e.String()}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
		})
	}
	return s
}

// atOnce is how many requests the API server gets at the same time.
const atOnce = 32

// Each calls a function for objects, many at the same time, and returns what went wrong.
func Each(ctx context.Context, objects []client.Object, do func(context.Context, client.Object) error) error {
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	failures := make([]error, len(objects))
	for i, object := range objects {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := do(ctx, object); err != nil {
				failures[i] = fmt.Errorf("%s %s: %w", object.GetNamespace(), object.GetName(), err)
			}
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

// Create creates objects.
func Create(ctx context.Context, c client.Client, objects ...client.Object) error {
	return Each(ctx, objects, func(ctx context.Context, o client.Object) error { return c.Create(ctx, o) })
}
