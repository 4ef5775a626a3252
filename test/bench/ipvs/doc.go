// Package ipvs measures what IPVS mode costs, beside the real kube-proxy in its ipvs mode: netlink messages, programs that are
// started, and time, for one endpoint change, by how many Services there are. Both work in network
// namespaces of one kernel, take turns in one run, and are counted by the same strace. `make bench` runs it and ends with a
// table of ratios; docs/performance.md says what they mean.
package ipvs
