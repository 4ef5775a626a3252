// Package trace says what becomes of the first packet of a connection on one node, and why, step by step.
//
// It is pure. It reads the forwarding table that the agent programs from, so that an answer cannot differ from what is
// programmed other than by a fault of a mode; the conformance tests hold every answer against what a packet really did.
package trace
