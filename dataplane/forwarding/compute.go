package forwarding

import (
	"fmt"
	"net/netip"
	"slices"
)

// Problem is a part of a Service that was left out, and why. The rest of the Service is programmed.
type Problem struct {
	// Field is the path of the field in the object, such as spec.externalIPs.
	Field string
	// Message says what is wrong and what would be right.
	Message string
}

// Compute says what one Service does on a node: its ports in both families, each with its frontends and backends.
// The slices are those of the Service, in any order.
func Compute(svc *Service, endpointSlices []*Slice, node *Node) ([]*ServicePort, []Problem) {
	if svc.Foreign {
		return foreign(svc), nil
	}
	var ports []*ServicePort
	var problems []Problem
	for _, ipv6 := range []bool{false, true} {
		clusterIPs := ofFamily(svc.ClusterIPs, ipv6)
		if len(clusterIPs) == 0 {
			continue
		}
		for i := range svc.Ports {
			port := &svc.Ports[i]
			id := PortID{Service: svc.Name, Port: port.Name, Protocol: port.Protocol, IPv6: ipv6}
			found, bad := collect(port, endpointSlices, ipv6, node.ServiceCIDRs)
			problems = append(problems, bad...)
			ports = append(ports, computePort(svc, port, id, categorize(svc, port, found, node), node))
		}
	}
	return ports, problems
}

// foreign keeps the addresses of a Service that another proxy serves from being rejected as unknown.
func foreign(svc *Service) []*ServicePort {
	var ports []*ServicePort
	for _, ip := range svc.ClusterIPs {
		ports = append(ports, &ServicePort{
			ID:        PortID{Service: svc.Name, IPv6: ip.Is6()},
			Frontends: []Frontend{{Key: Key{Addr: ip, IPv6: ip.Is6()}, Kind: ClusterIP, Otherwise: Ignore}},
		})
	}
	return ports
}

func computePort(svc *Service, port *Port, id PortID, found categories, node *Node) *ServicePort {
	p := &ServicePort{ID: id, Cluster: found.cluster, Local: found.local, Usable: found.usable, AffinitySeconds: svc.AffinitySeconds}
	otherwise := Reject
	if found.anywhere {
		otherwise = Drop
	}
	add := func(kind Kind, addr netip.Addr, number uint16, routes [classes]Route, sources []netip.Prefix) {
		f := Frontend{
			Key:  Key{Addr: addr, Port: number, Protocol: port.Protocol, IPv6: id.IPv6},
			Kind: kind, Routes: routes, Otherwise: otherwise, Sources: sources,
		}
		for class, r := range f.Routes {
			if len(p.Backends(r.Pool)) == 0 {
				f.Routes[class] = Route{}
			}
		}
		if !slices.ContainsFunc(p.Frontends, func(g Frontend) bool { return g.Key == f.Key }) {
			p.Frontends = append(p.Frontends, f)
		}
	}

	internal, external := internalRoutes(svc, id.IPv6, node), externalRoutes(svc, id.IPv6, node)
	for _, ip := range ofFamily(svc.ClusterIPs, id.IPv6) {
		add(ClusterIP, ip, port.Port, internal, nil)
	}
	for _, ip := range ofFamily(svc.ExternalIPs, id.IPv6) {
		add(ExternalIP, ip, port.Port, external, nil)
	}
	vips := ofFamily(svc.LoadBalancerIPs, id.IPv6)
	sources := allowedSources(svc.SourceRanges, vips, id.IPv6, node.Addresses)
	for _, ip := range vips {
		add(LoadBalancerIP, ip, port.Port, external, sources)
	}
	if port.NodePort != 0 {
		add(NodePort, netip.Addr{}, port.NodePort, external, nil)
	}
	return p
}

// internalRoutes are those of cluster IPs. A client that is no pod of this node is masqueraded: its own route back to
// the backend's reply may not lead through here.
func internalRoutes(svc *Service, ipv6 bool, node *Node) [classes]Route {
	pool := Cluster
	if svc.InternalLocal {
		pool = Local
	}
	offNode := node.MasqueradeAll || node.detectsPods(ipv6)
	return [classes]Route{
		Pod:    {Pool: pool, Masquerade: node.MasqueradeAll},
		Host:   {Pool: pool, Masquerade: offNode},
		Remote: {Pool: pool, Masquerade: offNode},
	}
}

// externalRoutes are those of external IPs, load balancer IPs and node ports. With externalTrafficPolicy: Local the
// source address survives, so only local backends may answer; clients inside the cluster are spared that limit.
func externalRoutes(svc *Service, ipv6 bool, node *Node) [classes]Route {
	if !svc.ExternalLocal {
		route := Route{Pool: Cluster, Masquerade: true}
		return [classes]Route{Pod: route, Host: route, Remote: route}
	}
	routes := [classes]Route{
		Pod:    {Pool: Cluster},
		Host:   {Pool: Cluster, Masquerade: true},
		Remote: {Pool: Local},
	}
	if !node.detectsPods(ipv6) {
		routes[Pod] = routes[Remote]
	}
	return routes
}

// allowedSources are the networks of one family that may connect to load balancer IPs; nil for everybody. Where the
// node itself is allowed, so are the load balancer IPs, because the node's own packets to such an address may carry it
// as their source.
func allowedSources(ranges []netip.Prefix, vips []netip.Addr, ipv6 bool, nodeAddresses []netip.Addr) []netip.Prefix {
	var sources []netip.Prefix
	self := false
	for _, r := range ranges {
		if r.Addr().Is6() != ipv6 {
			continue
		}
		if r.Bits() == 0 {
			return nil
		}
		sources = append(sources, r)
		self = self || slices.ContainsFunc(nodeAddresses, r.Contains)
	}
	if self {
		for _, ip := range vips {
			sources = append(sources, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return sources
}

func ofFamily(addrs []netip.Addr, ipv6 bool) []netip.Addr {
	var found []netip.Addr
	for _, a := range addrs {
		if a.Is6() == ipv6 {
			found = append(found, a)
		}
	}
	return found
}

// candidate is an endpoint that listens on a Service port.
type candidate struct {
	*Endpoint
	backend netip.AddrPort
}

// collect finds the endpoints of a Service port in its slices, each backend once: a pod IP that was reused may stand
// in two slices, and then the one that is not terminating counts.
func collect(port *Port, endpointSlices []*Slice, ipv6 bool, serviceCIDRs []netip.Prefix) ([]candidate, []Problem) {
	var problems []Problem
	index := map[netip.AddrPort]int{}
	var found []candidate
	for _, s := range endpointSlices {
		for _, sp := range s.Ports {
			if sp.Name != port.Name || sp.Protocol != port.Protocol || sp.Port == 0 {
				continue
			}
			for i := range s.Endpoints {
				e := &s.Endpoints[i]
				if e.Addr.Is6() != ipv6 || !e.usable() {
					continue
				}
				if inside(e.Addr, serviceCIDRs) {
					problems = append(problems, Problem{Field: "endpoints.addresses", Message: fmt.Sprintf(
						"%s is in the range of cluster IPs; an endpoint must be the address of a pod or host", e.Addr)})
					continue
				}
				c := candidate{Endpoint: e, backend: netip.AddrPortFrom(e.Addr, sp.Port)}
				if at, seen := index[c.backend]; !seen {
					index[c.backend] = len(found)
					found = append(found, c)
				} else if found[at].Terminating && !e.Terminating {
					found[at] = c
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return a.backend.Compare(b.backend) })
	return found, problems
}

func inside(addr netip.Addr, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
