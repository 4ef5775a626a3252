// Package bench measures what Service rules cost: a packet, a change, a start, and the kernel's memory in rules. It drives
// the engine of dataplane/iptables itself, in network namespaces without a name, with both backends of iptables, and puts
// the real kube-proxy beside it. `make bench` runs it and ends with a table of ratios; docs/performance.md says what they
// mean and why the comparison is fair.
package bench
