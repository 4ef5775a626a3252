// Package trace asks the agent of a node what becomes of a packet there, and why. What the packet is, between names that
// people use, is worked out here; what becomes of it, where it happens.
package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
)

// route is a packet, and where it comes by first.
type route struct {
	node string
	// from is an address, or query.FromNode; pod says that it is a pod on the node.
	from     string
	pod      bool
	to       netip.AddrPort
	protocol string
}

// source is who sends a packet. The node is empty for somebody outside, the addresses for a node itself.
type source struct {
	node      string
	pod       bool
	addresses []netip.Addr
}

// outside as the source of a packet is anybody who is not in the cluster. Addresses for documentation stand for him (RFC
// 5737, RFC 3849).
const outside = "outside"

func outsider() source {
	return source{addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}
}

// resolver finds what names mean, by the API server.
type resolver struct {
	api       client.Reader
	namespace string
}

// source finds who sends: "outside", an address, node/NAME, pod/NAME or the name of a pod.
func (r *resolver) source(ctx context.Context, text string) (source, error) {
	kind, name, named := strings.Cut(text, "/")
	if !named {
		kind, name = "pod", text
	}
	addr, err := netip.ParseAddr(text)
	switch {
	case text == outside:
		return outsider(), nil
	case err == nil:
		return r.owner(ctx, addr.Unmap())
	case kind == "node" || kind == "no":
		if err := r.api.Get(ctx, client.ObjectKey{Name: name}, &corev1.Node{}); err != nil {
			return source{}, fmt.Errorf("finding node %s: %w", name, err)
		}
		return source{node: name}, nil
	case kind == "pod" || kind == "po":
		var pod corev1.Pod
		if err := r.api.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: name}, &pod); err != nil {
			return source{}, fmt.Errorf("finding pod %s in namespace %s: %w", name, r.namespace, err)
		}
		return ofPod(&pod)
	}
	return source{}, fmt.Errorf("%q is none of: NAME of a pod, pod/NAME, node/NAME, an address, %q", text, outside)
}

func ofPod(pod *corev1.Pod) (source, error) {
	if pod.Spec.NodeName == "" || len(pod.Status.PodIPs) == 0 {
		return source{}, fmt.Errorf("pod %s/%s is on no node yet, or has no address", pod.Namespace, pod.Name)
	}
	if pod.Spec.HostNetwork {
		return source{node: pod.Spec.NodeName}, nil // what it sends, the node sends
	}
	s := source{node: pod.Spec.NodeName, pod: true}
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			s.addresses = append(s.addresses, addr)
		}
	}
	return s, nil
}

// owner finds who has an address: a node, a pod, or nobody that the cluster knows.
func (r *resolver) owner(ctx context.Context, addr netip.Addr) (source, error) {
	node, err := r.nodeAt(ctx, addr)
	if err != nil || node != "" {
		return source{node: node}, err
	}
	var pods corev1.PodList
	if err := r.api.List(ctx, &pods, client.MatchingFields{"status.podIP": addr.String()}); err != nil {
		return source{}, fmt.Errorf("looking for the pod at %s: %w", addr, err)
	}
	for i := range pods.Items {
		if phase := pods.Items[i].Status.Phase; phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			return ofPod(&pods.Items[i])
		}
	}
	return source{addresses: []netip.Addr{addr}}, nil
}

// nodeAt returns the name of the node that has an address; empty when none does.
func (r *resolver) nodeAt(ctx context.Context, addr netip.Addr) (string, error) {
	var nodes corev1.NodeList
	if err := r.api.List(ctx, &nodes); err != nil {
		return "", fmt.Errorf("looking for the node at %s: %w", addr, err)
	}
	for i := range nodes.Items {
		if slices.Contains(addressesOf(&nodes.Items[i]), addr) {
			return nodes.Items[i].Name, nil
		}
	}
	return "", nil
}

func addressesOf(node *corev1.Node) []netip.Addr {
	var all []netip.Addr
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			all = append(all, addr)
		}
	}
	return all
}

// errWhere is the error of a packet of which nobody can tell where it comes to the cluster.
var errWhere = errors.New("a packet from outside comes by whichever node the network takes it to; say with --node which one is meant")

// route works a packet out. node is where it comes by, where that is not plain from its source.
func (r *resolver) route(ctx context.Context, from, to, protocol, node string) (route, error) {
	s, err := r.source(ctx, from)
	if err != nil {
		return route{}, err
	}
	addr, addrErr := netip.ParseAddrPort(to)
	if s.node == "" && node == "" && addrErr == nil {
		if node, err = r.nodeAt(ctx, addr.Addr()); err != nil {
			return route{}, err
		}
	}
	if s.node == "" {
		if s.node = node; node == "" {
			return route{}, errWhere
		}
	} else if node != "" && node != s.node {
		return route{}, fmt.Errorf("%s sends from node %s, so node %s is not where its packets are decided about", from, s.node, node)
	}
	p := route{node: s.node, pod: s.pod, to: addr, protocol: protocol}
	if addrErr != nil {
		if p.to, p.protocol, err = r.service(ctx, to, protocol, s); err != nil {
			return route{}, err
		}
	}
	if p.protocol == "" {
		p.protocol = "tcp"
	}
	if p.from, err = s.of(p.to.Addr(), from); err != nil {
		return route{}, err
	}
	return p, nil
}

// of is the address of a family that a source sends from.
func (s source) of(to netip.Addr, name string) (string, error) {
	if len(s.addresses) == 0 {
		return query.FromNode, nil
	}
	for _, a := range s.addresses {
		if a.Is6() == to.Is6() {
			return a.String(), nil
		}
	}
	return "", fmt.Errorf("%s has no address of the family of %s", name, to)
}

// service finds where a client would reach a Service: [service/]NAME[:PORT], by the number or the name of the port.
func (r *resolver) service(ctx context.Context, text, protocol string, s source) (netip.AddrPort, string, error) {
	name, wanted, _ := strings.Cut(text, ":")
	for _, kind := range []string{"service/", "services/", "svc/"} {
		name = strings.TrimPrefix(name, kind)
	}
	var svc corev1.Service
	err := r.api.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: name}, &svc)
	switch {
	case apierrors.IsNotFound(err):
		return netip.AddrPort{}, "", fmt.Errorf("there is no Service %q in namespace %s; a destination that is none is ADDRESS:PORT", name, r.namespace)
	case err != nil:
		return netip.AddrPort{}, "", fmt.Errorf("finding Service %s: %w", name, err)
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return netip.AddrPort{}, "", fmt.Errorf("service %s is of type ExternalName: its name is an alias of %s, and no proxy has anything to do with it", name, svc.Spec.ExternalName)
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return netip.AddrPort{}, "", fmt.Errorf("service %s is headless: its name stands for the addresses of its pods, and no proxy has anything to do with it", name)
	}
	port, err := portOf(&svc, wanted, protocol)
	if err != nil {
		return netip.AddrPort{}, "", err
	}
	addr, number := r.reached(ctx, &svc, port, s)
	if !addr.IsValid() {
		return netip.AddrPort{}, "", fmt.Errorf("service %s has no address of a family that the client has", name)
	}
	return netip.AddrPortFrom(addr, uint16(number)), strings.ToLower(string(port.Protocol)), nil
}

// portOf is the port that is meant, which need not be said where there is one.
func portOf(svc *corev1.Service, wanted, protocol string) (*corev1.ServicePort, error) {
	var known []string
	var found []*corev1.ServicePort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		known = append(known, fmt.Sprintf("%d/%s", p.Port, strings.ToLower(string(p.Protocol))))
		meant := wanted == "" || wanted == p.Name || wanted == strconv.Itoa(int(p.Port))
		if meant && (protocol == "" || strings.EqualFold(protocol, string(p.Protocol))) {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("service %s has no port %s; it has %s", svc.Name, strings.Trim(wanted+"/"+protocol, "/"), strings.Join(known, ", "))
	case len(found) > 1:
		return nil, fmt.Errorf("service %s has several ports that could be meant: %s; say which as %s:PORT, and --protocol where two have one number",
			svc.Name, strings.Join(known, ", "), svc.Name)
	}
	return found[0], nil
}

// reached is the address and port at which a client reaches a Service: from inside at its cluster IP, from outside at that of
// a load balancer, an external IP, or a node port.
func (r *resolver) reached(ctx context.Context, svc *corev1.Service, port *corev1.ServicePort, s source) (netip.Addr, int32) {
	texts := slices.Clone(svc.Spec.ClusterIPs)
	if !s.pod && len(s.addresses) > 0 {
		texts = nil
		for _, ingress := range svc.Status.LoadBalancer.Ingress {
			texts = append(texts, ingress.IP)
		}
		texts = append(texts, svc.Spec.ExternalIPs...)
		var node corev1.Node
		if port.NodePort != 0 && r.api.Get(ctx, client.ObjectKey{Name: s.node}, &node) == nil {
			if addr := s.first(texts); addr.IsValid() {
				return addr, port.Port
			}
			for _, addr := range addressesOf(&node) {
				if _, err := s.of(addr, ""); err == nil {
					return addr, port.NodePort
				}
			}
		}
		texts = append(texts, svc.Spec.ClusterIPs...)
	}
	return s.first(texts), port.Port
}

// first is the first address of a family that a source has.
func (s source) first(texts []string) netip.Addr {
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		if _, err := s.of(addr, ""); err == nil {
			return addr
		}
	}
	return netip.Addr{}
}
