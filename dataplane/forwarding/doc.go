// Package forwarding decides what each address, port and protocol of a Service does with a packet on one node.
//
// It is pure: Services and endpoints go in as values, a forwarding table comes out. It knows nothing of the
// Kubernetes API and nothing of kernels, so a policy is written here once and holds in every mode. Compute answers for
// one Service; Table puts the answers together, settles who holds an address that two Services claim, and says what
// changed.
//
// Behaviour follows kube-proxy, see docs/behaviour.md for where it differs on purpose.
package forwarding
