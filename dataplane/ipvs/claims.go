package ipvs

import (
	"fmt"
	"net/netip"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
)

// claims is what one Service port asks of the kernel.
type claims struct {
	servers []serverClaim
	entries []entryClaim
	routes  []routes.Route
	// left are the addresses that get nothing, and why.
	left []string
}

// serverClaim is a virtual server that is asked for, with its real servers in order.
type serverClaim struct {
	virtualserver.Server
	port     forwarding.PortID
	backends []netip.AddrPort
}

type entryClaim struct {
	kind kind
	ipset.Entry
}

// place is what claims depend on besides the Service port. All of it is of one family.
type place struct {
	ipv6     bool
	settings *Settings
	// nodePorts are the addresses of the node that have node ports, and own every address that it has.
	nodePorts []netip.Addr
	own       map[netip.Addr]bool
	marks     *marks
}

// everything that a Service port asks of the kernel. Only the marks that it takes are remembered.
func (l *place) claims(p *forwarding.ServicePort) claims {
	var c claims
	for i := range p.Frontends {
		f := &p.Frontends[i]
		if f.Kind == forwarding.NodePort {
			for _, addr := range l.nodePorts {
				if !contains(l.settings.ExcludeCIDRs, addr) {
					l.frontend(&c, p, f, addr)
				}
			}
			continue
		}
		addr := f.Key.Addr
		excluded := contains(l.settings.ExcludeCIDRs, addr)
		if excluded {
			c.left = append(c.left, fmt.Sprintf("%s lies in one of spec.ipvs.excludeCIDRs and gets no virtual server", f.Key))
		}
		if excluded || f.Otherwise == forwarding.Ignore {
			l.leaveAlone(&c, addr)
			continue
		}
		l.route(&c, addr)
		l.frontend(&c, p, f, addr)
	}
	return c
}

// leaveAlone keeps an address that is local, because its network is, to whoever else serves it.
func (l *place) leaveAlone(c *claims, addr netip.Addr) {
	if !l.settings.inServiceCIDR(addr) {
		return
	}
	c.entries = append(c.entries, entryClaim{setIgnored, ipset.Entry{Addr: addr}})
	c.routes = append(c.routes, routes.Route{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Type: routes.Throw})
}

// route makes an address local that is not: packets to others never get to where IPVS looks at them.
func (l *place) route(c *claims, addr netip.Addr) {
	if l.settings.inServiceCIDR(addr) || l.own[addr] {
		return
	}
	c.entries = append(c.entries, entryClaim{setRouted, ipset.Entry{Addr: addr}})
	c.routes = append(c.routes, l.localRoute(netip.PrefixFrom(addr, addr.BitLen())))
}

// localRoute makes a network of Service addresses local. Connections from the node have its address as their source.
func (l *place) localRoute(prefix netip.Prefix) routes.Route {
	r := routes.Route{Prefix: prefix, Type: routes.Local}
	for _, addr := range l.settings.NodeAddresses {
		if addr.Is6() == l.ipv6 && l.own[addr] {
			r.Source = addr
			return r
		}
	}
	if len(l.nodePorts) > 0 {
		r.Source = l.nodePorts[0] // the Node object has an address that the machine does not know of
	}
	return r
}

// frontend asks for the virtual servers and the entries of a frontend at one address.
func (l *place) frontend(c *claims, p *forwarding.ServicePort, f *forwarding.Frontend, addr netip.Addr) {
	at := ipset.Entry{Addr: addr, Protocol: uint8(f.Key.Protocol), Port: f.Key.Port}
	key := virtualserver.At(netip.AddrPortFrom(addr, f.Key.Port), f.Key.Protocol)
	direct := f.Routes[forwarding.Remote].Pool
	open := false
	for class, set := range map[forwarding.Class]kind{forwarding.Pod: setPod, forwarding.Host: setHost, forwarding.Remote: setRemote} {
		route := f.Routes[class]
		if route.Pool == forwarding.Nowhere {
			continue
		}
		open = true
		entry := at
		if route.Masquerade {
			entry.Mark = 1 << l.settings.MarkBit
			entry.Mask = entry.Mark
		}
		if route.Pool != direct {
			entry.Mark, entry.Mask = l.mark(c, p, route), ^uint32(0)
			if entry.Mark == 0 {
				continue
			}
		}
		c.entries = append(c.entries, entryClaim{set, entry})
	}
	if direct != forwarding.Nowhere {
		server := virtualserver.New(key, l.settings.Scheduler, p.AffinitySeconds)
		c.servers = append(c.servers, serverClaim{server, p.ID, p.Backends(direct)})
	}
	if len(f.Sources) > 0 && open {
		c.entries = append(c.entries, entryClaim{setLimited, at})
		for _, source := range f.Sources {
			entry := at
			entry.Net = source
			c.entries = append(c.entries, entryClaim{setSources, entry})
		}
	}
	l.closed(c, f, at)
}

// mark asks for the virtual server that a route leads to by a mark, once, and returns the mark; 0 when there are no more. It
// is for classes of clients that go to other backends than others do at the same address. Packets that are to be
// masqueraded have one of their own, because IPVS compares the whole mark.
func (l *place) mark(c *claims, p *forwarding.ServicePort, route forwarding.Route) uint32 {
	number := l.marks.number(pooled{p.ID, route.Pool})
	if number == 0 {
		c.left = append(c.left, fmt.Sprintf("%s has no mark left to tell its clients apart by; fewer Services with "+
			"externalTrafficPolicy: Local would be right", p.ID))
		return 0
	}
	mark := spread(number, l.settings.MarkBit)
	if route.Masquerade {
		mark |= 1 << l.settings.MarkBit
	}
	key := virtualserver.Marked(mark, l.ipv6)
	for _, s := range c.servers {
		if s.Key == key {
			return mark
		}
	}
	c.servers = append(c.servers, serverClaim{l.markedServer(key, p.AffinitySeconds > 0), p.ID, p.Backends(route.Pool)})
	return mark
}

// markedServer is a virtual server that is found by a mark. With persistence the kernel would not translate the port of its
// connections (ip_vs_sched_persist in net/netfilter/ipvs/ip_vs_core.c), so there clients keep their backend by a hash of
// their address, for as long as the backend is there.
func (l *place) markedServer(key virtualserver.Key, affinity bool) virtualserver.Server {
	if !affinity {
		return virtualserver.New(key, l.settings.Scheduler, 0)
	}
	s := virtualserver.New(key, "mh", 0)
	s.Flags &^= virtualserver.FlagSourcePort
	return s
}

// closed asks for what becomes of clients without a route.
func (l *place) closed(c *claims, f *forwarding.Frontend, at ipset.Entry) {
	everyone := true
	for _, route := range f.Routes {
		everyone = everyone && route.Pool != forwarding.Nowhere
	}
	switch {
	case everyone:
	case f.Otherwise == forwarding.Drop:
		c.entries = append(c.entries, entryClaim{setDropped, at})
	case l.own[at.Addr]:
		c.entries = append(c.entries, entryClaim{setRejected, at})
	}
}
