// Package probe tells whether a node can still reach what it could reach before its settings changed: the API server
// through the cluster IP of its Service, always, and the Services that people name.
//
//	before := prober.Passing(ctx, table, probe.Targets(settings.Probes))
//	... the new settings are written ...
//	err := prober.Check(ctx, table, before) // *FailedError names what does not answer any more
//
// Connections are made by the node itself, so what is tried is its own way into Services. Addresses come from the
// forwarding table: nothing here needs the API server to find out whether it can be reached.
package probe
