package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// Forget removes what connection tracking of all nodes still knows of connections to a pod that is gone. A connection that
// was lost with it stays there for up to two minutes (nf_conntrack_tcp_timeout_syn_sent), and a new one that happens to
// get the same source port would follow it to nowhere, whatever the rules say.
func Forget(ctx context.Context, c *cluster.Cluster, gone *cluster.Pod) error {
	var failures []error
	for _, node := range c.Nodes() {
		for _, ip := range gone.Addresses() {
			failures = append(failures, node.Do(func() error { return forget(ip) }))
		}
	}
	if err := errors.Join(append(failures, ctx.Err())...); err != nil {
		return fmt.Errorf("forgetting connections to pod %s: %w", gone.Name, err)
	}
	return nil
}

// forget removes connections of the calling thread's network namespace that are answered from an address.
func forget(ip netip.Addr) error {
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer handle.Close()
	filter := &netlink.ConntrackFilter{}
	if err := filter.AddIP(netlink.ConntrackReplySrcIP, ip.AsSlice()); err != nil {
		return fmt.Errorf("choosing connections: %w", err)
	}
	family := netlink.InetFamily(unix.AF_INET)
	if ip.Is6() {
		family = unix.AF_INET6
	}
	if _, err := handle.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter); err != nil {
		return fmt.Errorf("deleting connections: %w", err)
	}
	return nil
}
