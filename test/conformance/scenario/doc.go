// Package scenario is how tests of the data plane write down Services, packets and what should become of them.
//
// A line describes a Service:
//
//	svc1 172.30.0.41 80^3001 vip=1.2.3.4 eTP=Local -> 10.180.0.1/local 10.180.1.1
//
// First its name and cluster IP, then its ports and properties, then its endpoints.
//
//	[NAME:]PORT[/udp|/sctp][>TARGET][^NODEPORT]   a port; the target is the port itself unless it is given
//	vip=A,B xip=A,B     load balancer IPs, external IPs
//	ranges=P,Q          allowed sources of load balancer IPs
//	eTP=Local iTP=Local traffic policies
//	affinity=SECONDS    session affinity
//	foreign             served by another proxy
//
// An endpoint is an address with words after slashes: local (on this node), terminating (and serving), dead
// (terminating and not serving), unready, zone=A,B and node=N,M (hints).
//
// Another line describes a packet and what becomes of it:
//
//	external -> 5.6.7.8:80/udp => 10.180.0.1:80 10.180.1.1:80 masq
//
// The source is node, pod, external, one of these with another address (node=1.2.3.4), or the address of an endpoint. The outcome is a set of backends, each of which must be chosen
// sometimes and nothing else ever, with "masq" where the backend must see the node's address and not the client's; or
// REJECT, DROP, or untouched, which means that the packet reaches the address it was sent to.
//
// Everything is written in IPv4. Each scenario is also one in IPv6, in which every address is replaced by its Twin, so a
// Service is dual-stack and a packet is sent twice.
package scenario
