// Package drift hears from the kernel that somebody else has changed what is ours: chains of nf_tables, which
// iptables-nft writes, and routes. What the kernel gives no notice of has to be looked at from time to time by whoever
// wrote it.
//
// Everything is about the network namespace of the thread that calls Watch.
package drift
