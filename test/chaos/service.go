package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The ports of every Service, and what their endpoints listen on.
const (
	httpPort, httpTarget = 80, 8080
	dnsPort, dnsTarget   = 53, 5353
)

// state is what an endpoint says of itself.
type state int

const (
	ready state = iota
	draining
	dead
	states
)

// service is a Service as it is to be by now. Its EndpointSlice is written by hand, so that what is to happen is known at
// once.
type service struct {
	number                       int
	exposed                      bool
	internalLocal, externalLocal bool
	affinity                     bool
	morePorts                    int
	endpoints                    map[string]state // by the names of pods
}

func (s *service) name() string      { return fmt.Sprintf("chaos-%02d", s.number) }
func (s *service) clusterIP() string { return fmt.Sprintf("10.96.1.%d", 1+s.number) }
func (s *service) nodePort() int32   { return int32(30100 + s.number) }

// String is the Service in a few words, for the list of steps.
func (s *service) String() string {
	words := []string{s.name()}
	for word, said := range map[string]bool{
		"exposed": s.exposed, "internal: Local": s.internalLocal, "external: Local": s.externalLocal, "sticky": s.affinity,
	} {
		if said {
			words = append(words, word)
		}
	}
	slices.Sort(words[1:])
	var endpoints []string
	for pod, state := range s.endpoints {
		endpoints = append(endpoints, pod+[...]string{ready: "", draining: " (draining)", dead: " (dead)"}[state])
	}
	slices.Sort(endpoints)
	if s.morePorts > 0 {
		words = append(words, fmt.Sprintf("%d more ports", s.morePorts))
	}
	return strings.Join(words, ", ") + " -> " + strings.Join(endpoints, ", ")
}

// draw changes what a Service is like.
func (s *service) draw(r *rand.Rand) {
	s.exposed = r.IntN(2) == 0
	s.internalLocal = r.IntN(4) == 0
	s.externalLocal = s.exposed && r.IntN(3) == 0
	s.affinity = r.IntN(4) == 0
	s.morePorts = 0
	if r.IntN(10) == 0 {
		s.morePorts = 200
	}
}

// drawEndpoints changes where a Service leads to.
func (s *service) drawEndpoints(r *rand.Rand, pods []string) {
	s.endpoints = map[string]state{}
	for _, pod := range pods {
		if r.IntN(3) == 0 {
			s.endpoints[pod] = []state{ready, ready, ready, draining, dead}[r.IntN(5)]
		}
	}
}

// backends are the pods that connections may go to, of those that a filter leaves: the ready ones, or else those that drain.
func (s *service) backends(among func(pod string) bool) []string {
	for _, wanted := range []state{ready, draining} {
		var found []string
		for pod, state := range s.endpoints {
			if state == wanted && among(pod) {
				found = append(found, pod)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

func (s *service) object() *corev1.Service {
	object := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: s.name()},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: s.clusterIP(), ClusterIPs: []string{s.clusterIP()},
			IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack),
			Ports: []corev1.ServicePort{
				{Name: "http", Port: httpPort, Protocol: corev1.ProtocolTCP},
				{Name: "dns", Port: dnsPort, Protocol: corev1.ProtocolUDP},
			},
			SessionAffinity: corev1.ServiceAffinityNone,
		},
	}
	if s.internalLocal {
		object.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if s.exposed {
		object.Spec.Type = corev1.ServiceTypeNodePort
		object.Spec.Ports[0].NodePort = s.nodePort()
		object.Spec.Ports[1].NodePort = s.nodePort() + 100
		if s.externalLocal {
			object.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
	}
	if s.affinity {
		object.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if s.exposed {
		return object // more ports would take node ports away from others
	}
	for i := range s.morePorts {
		object.Spec.Ports = append(object.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("port-%d", i), Port: int32(1000 + i), Protocol: corev1.ProtocolTCP,
		})
	}
	return object
}

// slice is the EndpointSlice. where tells the address and the node of a pod.
func (s *service) slice(where func(pod string) (address, node string)) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: s.name(),
			Labels: map[string]string{discoveryv1.LabelServiceName: s.name(), discoveryv1.LabelManagedBy: "chaos"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Port: new(int32(httpTarget)), Protocol: new(corev1.ProtocolTCP)},
			{Name: new("dns"), Port: new(int32(dnsTarget)), Protocol: new(corev1.ProtocolUDP)},
		},
	}
	for pod, state := range s.endpoints {
		address, node := where(pod)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{address}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{
				Ready: new(state == ready), Serving: new(state != dead), Terminating: new(state == draining),
			},
		})
	}
	slices.SortFunc(slice.Endpoints, func(a, b discoveryv1.Endpoint) int { return strings.Compare(a.Addresses[0], b.Addresses[0]) })
	return slice
}
