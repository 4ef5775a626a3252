// Package conformance tries what the data plane does to packets.
//
// vectors.txt says what should happen. The forwarding table is held against it without a kernel (TestTable); every
// mode is held against it with real packets through a real kernel, and against what the forwarding table says about
// random Services and packets. A mode joins in by one entry in the table of modes.
package conformance
