// Package agent is the loop that runs on a node: it follows the node's assignment and the catalog, keeps the forwarding
// table, has the engine write what changed, and reports.
//
//	assignment ─┐
//	            ├─> loop ── forwarding.Table ──> engine ──> kernel
//	catalog ────┘     └──> report: metrics and health at once, status when it changed
//
// Nothing is removed from the kernel when the agent stops, loses the API server, or is given an assignment that it
// cannot carry out: what worked goes on working.
package agent
