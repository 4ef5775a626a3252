// Package addresses tells which addresses this machine has, which of them have node ports, and when that changes.
//
// Everything is about the network namespace of the calling thread.
package addresses
