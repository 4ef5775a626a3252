// Package ipvs makes the virtual servers of IPVS match a forwarding table.
//
// Every address:port of a Service port is a virtual server whose real servers are its backends (claims.go, servers.go). IPVS
// sees packets only where they have come to be for the node itself, so the addresses of Services are local to it: the
// networks of cluster IPs by one route each, others by a route of their own. What IPVS leaves out, which is who may connect,
// who is masqueraded, and what becomes of packets that no virtual server takes, stands in sets, one entry for each
// frontend, which a fixed handful of rules asks (rules.go).
//
// A virtual server takes all clients alike. Where a Service treats classes of clients differently (externalTrafficPolicy:
// Local), or keeps a client's backend at all of its addresses (sessionAffinity), the sets mark packets by the class of the
// client, and the virtual server is found by the mark (marks.go).
//
// The engine knows of everything what is wanted and what the kernel holds (ledger.go), so that a change costs what it
// changes, and no program is started for it. A real server that leaves gets no new connections, and goes when those it has
// have ended (servers.go); so does the whole mode when a node leaves it (retire.go).
//
// Everything it makes is named SPROXYVS-*, carries a flag (virtual servers) or a protocol number (routes) of its own, and it
// never touches anything else.
package ipvs
