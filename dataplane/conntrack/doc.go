// Package conntrack keeps connection tracking true to the forwarding table.
//
// A UDP flow lives in the kernel's connection tracking as long as packets come, and goes on to the endpoint it was first
// given, also when that endpoint is gone, or when there was none. Cleaner finds such flows and deletes them, so that the
// next packet is forwarded anew (stale.go decides, cleaner.go and kernel.go look and delete). Connections of TCP and SCTP
// are left to their own end, as kube-proxy does: their peers notice.
//
// Settings are the limits and timeouts of connection tracking (settings.go).
//
// Everything is about the network namespace of the calling thread.
package conntrack
