package forwarding

import "net/netip"

// LocalReady counts the ready endpoints of a Service on this node, by address and over all its ports, as its health
// check node port tells load balancers. Endpoints that are terminating do not count, although they may still serve, so
// that load balancers turn away before they are gone. A dual-stack pod is one endpoint in each family; where the
// families differ the larger count is returned.
func LocalReady(endpointSlices []*Slice) int {
	ready := [2]map[netip.Addr]struct{}{{}, {}}
	for _, s := range endpointSlices {
		if len(s.Ports) == 0 {
			continue // nothing listens there
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if !e.Ready || !e.Local {
				continue
			}
			family := 0
			if e.Addr.Is6() {
				family = 1
			}
			ready[family][e.Addr] = struct{}{}
		}
	}
	return max(len(ready[0]), len(ready[1]))
}
