// Package routes has the kernel take the addresses of Services for its own, a whole range by one route, without putting
// each on an interface (ip-route(8), "local"; table local is looked up before all others, ip-rule(8)).
//
// A route of ours carries a route protocol number of our own, by which it is known also after a restart. Routes of
// others are never changed.
//
// Everything is about the network namespace of the calling thread.
package routes
