package catalog

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/utils/net"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// labelServiceProxyName on a Service hands it to another proxy (KEP-2447).
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// Problem is a part of an API object that was left out, and why. Everything else is programmed.
type Problem struct {
	// Object names what the problem is in. UID is set so that an event can be attached to it.
	Object corev1.ObjectReference
	// Field is the path of the field, such as spec.externalIPs[0].
	Field string
	// Message says what is wrong and what would be right.
	Message string
}

// String names the object, the field and what would be right.
func (p Problem) String() string {
	return fmt.Sprintf("%s %s/%s: %s: %s", p.Object.Kind, p.Object.Namespace, p.Object.Name, p.Field, p.Message)
}

// reduced is an API object reduced to what is kept of it.
type reduced[T any] struct {
	name types.NamespacedName
	// value is nil where the object is gone or nothing of it is needed.
	value    *T
	problems []Problem
	// triggered is when the change that led to this version of an EndpointSlice was made, if the endpoints controller said so.
	triggered time.Time
}

// shared is the one copy of a text that many objects have, such as a namespace or the name of a port: every object that is
// decoded brings one of its own.
func shared(text string) string { return unique.Make(text).Value() }

// GetObjectMeta lets a reflector find the name while it collects the initial list.
func (r reduced[T]) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: r.name.Namespace, Name: r.name.Name}
}

// slice is an EndpointSlice and the Service that it belongs to.
type slice struct {
	owner types.NamespacedName
	forwarding.Slice
}

// decodeService reduces a Service; to nothing where it gets no rules.
func decodeService(svc *corev1.Service) reduced[forwarding.Service] {
	r := reduced[forwarding.Service]{name: types.NamespacedName{Namespace: shared(svc.Namespace), Name: svc.Name}}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return r
	}
	problem := func(field, format string, args ...any) {
		r.problems = append(r.problems, Problem{
			Object: corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID},
			Field:  field, Message: fmt.Sprintf(format, args...),
		})
	}
	s := &forwarding.Service{
		Name:          r.name,
		Created:       svc.CreationTimestamp.Unix(),
		InternalLocal: svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	_, s.Foreign = svc.Labels[labelServiceProxyName]

	clusterIPs := svc.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{svc.Spec.ClusterIP}
	}
	s.ClusterIPs = decodeAddrs("spec.clusterIPs", clusterIPs, problem)
	s.ExternalIPs = decodeAddrs("spec.externalIPs", svc.Spec.ExternalIPs, problem)
	for i, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP == "" || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		if addr, ok := decodeAddr(in.IP); ok {
			s.LoadBalancerIPs = append(s.LoadBalancerIPs, addr)
		} else {
			problem(fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), "%q is not an IP address", in.IP)
		}
	}
	s.SourceRanges = decodeSourceRanges(svc.Spec.LoadBalancerSourceRanges, problem)
	if a := svc.Spec.SessionAffinityConfig; svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		s.AffinitySeconds = uint32(corev1.DefaultClientIPServiceAffinitySeconds)
		if a != nil && a.ClientIP != nil && a.ClientIP.TimeoutSeconds != nil && *a.ClientIP.TimeoutSeconds > 0 {
			s.AffinitySeconds = uint32(*a.ClientIP.TimeoutSeconds)
		}
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && s.ExternalLocal {
		s.HealthCheckNodePort = uint16(svc.Spec.HealthCheckNodePort)
	}
	s.Ports = decodePorts(svc.Spec.Ports, problem)
	r.value = s
	return r
}

func decodePorts(ports []corev1.ServicePort, problem func(field, format string, args ...any)) []forwarding.Port {
	decoded := make([]forwarding.Port, 0, len(ports))
	for i, p := range ports {
		protocol, ok := decodeProtocol(p.Protocol)
		if !ok {
			problem(fmt.Sprintf("spec.ports[%d].protocol", i), "%q is not TCP, UDP or SCTP", p.Protocol)
			continue
		}
		if p.Port < 1 || p.Port > 65535 {
			problem(fmt.Sprintf("spec.ports[%d].port", i), "%d is not between 1 and 65535", p.Port)
			continue
		}
		if p.NodePort < 0 || p.NodePort > 65535 {
			problem(fmt.Sprintf("spec.ports[%d].nodePort", i), "%d is not between 1 and 65535", p.NodePort)
			p.NodePort = 0
		}
		decoded = append(decoded, forwarding.Port{
			Name: shared(p.Name), Protocol: protocol, Port: uint16(p.Port), NodePort: uint16(p.NodePort),
		})
	}
	return decoded
}

// decodeSourceRanges leaves out what is no CIDR. If nothing is left of a list that was not empty, nobody is let in:
// a typing error must not open a Service to everyone.
func decodeSourceRanges(ranges []string, problem func(field, format string, args ...any)) []netip.Prefix {
	var decoded []netip.Prefix
	for i, text := range ranges {
		_, network, err := utilnet.ParseCIDRSloppy(strings.TrimSpace(text))
		if err != nil {
			problem(fmt.Sprintf("spec.loadBalancerSourceRanges[%d]", i), "%q is not a CIDR such as 203.0.113.0/24", text)
			continue
		}
		addr, _ := netip.AddrFromSlice(network.IP)
		bits, _ := network.Mask.Size()
		decoded = append(decoded, netip.PrefixFrom(addr.Unmap(), bits))
	}
	if len(ranges) > 0 && len(decoded) == 0 {
		nobody4, nobody6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
		decoded = []netip.Prefix{netip.PrefixFrom(nobody4, 32), netip.PrefixFrom(nobody6, 128)}
	}
	return decoded
}

func decodeAddrs(field string, texts []string, problem func(field, format string, args ...any)) []netip.Addr {
	var addrs []netip.Addr
	for i, text := range texts {
		if addr, ok := decodeAddr(text); ok {
			addrs = append(addrs, addr)
		} else {
			problem(fmt.Sprintf("%s[%d]", field, i), "%q is not an IP address", text)
		}
	}
	return addrs
}

// decodeAddr accepts what old API servers stored, such as 172.30.0.041, as everybody else in a cluster reads it.
func decodeAddr(text string) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(utilnet.ParseIPSloppy(strings.TrimSpace(text)))
	return addr.Unmap(), ok
}

func decodeProtocol(p corev1.Protocol) (forwarding.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return forwarding.TCP, true
	case corev1.ProtocolUDP:
		return forwarding.UDP, true
	case corev1.ProtocolSCTP:
		return forwarding.SCTP, true
	}
	return 0, false
}

// decodeSlice reduces an EndpointSlice as seen from one node; to nothing where it belongs to no Service or holds names
// instead of addresses.
func decodeSlice(es *discoveryv1.EndpointSlice, nodeName string) reduced[slice] {
	r := reduced[slice]{name: types.NamespacedName{Namespace: shared(es.Namespace), Name: es.Name}}
	owner := es.Labels[discoveryv1.LabelServiceName]
	if owner == "" || es.AddressType == discoveryv1.AddressTypeFQDN {
		return r
	}
	problem := func(field, format string, args ...any) {
		r.problems = append(r.problems, Problem{
			Object: corev1.ObjectReference{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice",
				Namespace: es.Namespace, Name: es.Name, UID: es.UID},
			Field: field, Message: fmt.Sprintf(format, args...),
		})
	}
	r.value = &slice{owner: types.NamespacedName{Namespace: r.name.Namespace, Name: owner}}
	if t, err := time.Parse(time.RFC3339Nano, es.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		r.triggered = t
	}
	for i, p := range es.Ports {
		if p.Name == nil || p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			problem(fmt.Sprintf("ports[%d]", i), "a name (which may be empty) and a port between 1 and 65535 are needed")
			continue
		}
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		number, ok := decodeProtocol(protocol)
		if !ok {
			problem(fmt.Sprintf("ports[%d].protocol", i), "%q is not TCP, UDP or SCTP", protocol)
			continue
		}
		r.value.Ports = append(r.value.Ports, forwarding.SlicePort{Name: shared(*p.Name), Protocol: number, Port: uint16(*p.Port)})
	}
	r.value.Endpoints = slices.Grow(r.value.Endpoints, len(es.Endpoints))
	for i := range es.Endpoints {
		if e, bad := decodeEndpoint(&es.Endpoints[i], es.AddressType, nodeName); bad == "" {
			r.value.Endpoints = append(r.value.Endpoints, e)
		} else {
			problem(fmt.Sprintf("endpoints[%d].addresses", i), "%s", bad)
		}
	}
	return r
}

// decodeEndpoint returns what is wrong with an endpoint, or an empty string.
func decodeEndpoint(e *discoveryv1.Endpoint, family discoveryv1.AddressType, nodeName string) (forwarding.Endpoint, string) {
	if len(e.Addresses) == 0 {
		return forwarding.Endpoint{}, "an address is needed"
	}
	addr, ok := decodeAddr(e.Addresses[0])
	switch {
	case !ok || addr.Is6() != (family == discoveryv1.AddressTypeIPv6):
		return forwarding.Endpoint{}, fmt.Sprintf("%q is not an %s address", e.Addresses[0], family)
	case addr.IsLoopback() || addr.IsUnspecified() || addr.IsLinkLocalUnicast() || addr.IsMulticast():
		return forwarding.Endpoint{}, fmt.Sprintf("%s cannot be reached from other hosts; an endpoint must be the address of a pod or host", addr)
	}
	isTrue := func(b *bool, unset bool) bool { return b == nil && unset || b != nil && *b }
	d := forwarding.Endpoint{
		Addr:        addr,
		Ready:       isTrue(e.Conditions.Ready, true),
		Serving:     isTrue(e.Conditions.Serving, true),
		Terminating: isTrue(e.Conditions.Terminating, false),
		Local:       e.NodeName != nil && *e.NodeName == nodeName,
	}
	if e.Hints != nil {
		for _, n := range e.Hints.ForNodes {
			d.NodeHints = true
			d.ThisNode = d.ThisNode || n.Name == nodeName
		}
		for _, z := range e.Hints.ForZones {
			d.ZoneHints = append(d.ZoneHints, shared(z.Name))
		}
	}
	return d, ""
}

func decodeServiceCIDR(sc *networkingv1.ServiceCIDR) reduced[[]netip.Prefix] {
	r := reduced[[]netip.Prefix]{name: types.NamespacedName{Name: sc.Name}}
	prefixes := decodePrefixes(sc.Spec.CIDRs)
	r.value = &prefixes
	return r
}

// taintLeaving is put on nodes that the cluster autoscaler is about to remove.
const taintLeaving = "ToBeDeletedByClusterAutoscaler"

func decodeNode(node *corev1.Node) reduced[Node] {
	n := &Node{Zone: node.Labels[corev1.LabelTopologyZone], Leaving: node.DeletionTimestamp != nil}
	for _, t := range node.Spec.Taints {
		n.Leaving = n.Leaving || t.Key == taintLeaving
	}
	podCIDRs := node.Spec.PodCIDRs
	if len(podCIDRs) == 0 && node.Spec.PodCIDR != "" {
		podCIDRs = []string{node.Spec.PodCIDR}
	}
	n.PodCIDRs = decodePrefixes(podCIDRs)
	families := map[bool]bool{}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range node.Status.Addresses {
			addr, ok := decodeAddr(a.Address)
			if ok && a.Type == kind && !families[addr.Is6()] {
				families[addr.Is6()] = true
				n.Addresses = append(n.Addresses, addr)
			}
		}
	}
	return reduced[Node]{name: types.NamespacedName{Name: node.Name}, value: n}
}

// decodePrefixes leaves out what is no CIDR; the API server validates these fields.
func decodePrefixes(texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			prefixes = append(prefixes, p.Masked())
		}
	}
	return prefixes
}

// ServiceProblem is a problem that was found in a Service after it was decoded.
func ServiceProblem(name types.NamespacedName, field, message string) Problem {
	return Problem{
		Object: corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: name.Namespace, Name: name.Name},
		Field:  field, Message: message,
	}
}
