package forwarding

import (
	"net/netip"
	"slices"
)

// categories are the backends of a Service port, by the use that can be made of them.
type categories struct {
	cluster, local []netip.AddrPort
	// usable is every endpoint that may keep the UDP flows it has; nil where that is cluster, and for other protocols.
	usable []netip.AddrPort
	// anywhere says that some endpoint is usable, here or on another node.
	anywhere bool
}

// categorize picks the backends of a Service port. The cluster pool is the ready endpoints that topology leaves to this
// node; the local pool is the ready ones on it. Each falls back on endpoints that are terminating but still serve
// (KEP-1669). A pool that no policy of the Service asks for stays empty.
func categorize(svc *Service, port *Port, found []candidate, node *Node) categories {
	reachable := port.NodePort != 0 || len(svc.LoadBalancerIPs) > 0 || len(svc.ExternalIPs) > 0
	c := categories{anywhere: len(found) > 0}
	if !svc.InternalLocal || reachable {
		c.cluster = pick(found, topologyFilter(found, node), everyone)
	}
	if svc.InternalLocal || (svc.ExternalLocal && reachable) {
		c.local = pick(found, onThisNode, onThisNode)
	}
	if port.Protocol == UDP && len(c.cluster) < len(found) {
		for i := range found {
			c.usable = append(c.usable, found[i].backend)
		}
	}
	return c
}

func everyone(*Endpoint) bool     { return true }
func onThisNode(e *Endpoint) bool { return e.Local }

// pick takes the ready endpoints that readyIf wants, or else the fallback ones that fallbackIf wants.
func pick(found []candidate, readyIf, fallbackIf func(*Endpoint) bool) []netip.AddrPort {
	var ready, fallback []netip.AddrPort
	for _, c := range found {
		switch {
		case c.Ready && readyIf(c.Endpoint):
			ready = append(ready, c.backend)
		case !c.Ready && c.fallback() && fallbackIf(c.Endpoint):
			fallback = append(fallback, c.backend)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return fallback
}

// topologyFilter is the hints of the ready endpoints turned into a choice (KEP-2433, KEP-3015). Hints for nodes come
// before hints for zones; one ready endpoint without a hint, or no endpoint meant for here, switches them off.
func topologyFilter(found []candidate, node *Node) func(*Endpoint) bool {
	thisZone := func(e *Endpoint) bool { return slices.Contains(e.ZoneHints, node.Zone) }
	thisNode := func(e *Endpoint) bool { return e.ThisNode }
	nodeHints, zoneHints := true, node.Zone != ""
	forNode, forZone := false, false
	for _, c := range found {
		if !c.Ready {
			continue
		}
		nodeHints = nodeHints && c.NodeHints
		zoneHints = zoneHints && len(c.ZoneHints) > 0
		forNode = forNode || thisNode(c.Endpoint)
		forZone = forZone || thisZone(c.Endpoint)
	}
	switch {
	case nodeHints && forNode:
		return thisNode
	case zoneHints && forZone:
		return thisZone
	}
	return everyone
}
