package churn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// Serve has a pod answer at every address of an IPv4 network, at EndpointPort, with the address that it was asked at, and has a node send
// there what goes to one of them. The pod stops answering when what is returned is called.
func Serve(ctx context.Context, node *cluster.Node, server *cluster.Pod, endpoints netip.Prefix) (stop func() error, err error) {
	network := &net.IPNet{IP: endpoints.Addr().AsSlice(), Mask: net.CIDRMask(endpoints.Bits(), 32)}
	if err := server.Configure(func(links *netlink.Handle) error {
		lo, err := links.LinkByName("lo")
		if err != nil {
			return err
		}
		return links.RouteAdd(&netlink.Route{Dst: network, LinkIndex: lo.Attrs().Index,
			Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST})
	}); err != nil {
		return nil, fmt.Errorf("giving the server its addresses: %w", err)
	}
	if err := node.Configure(func(links *netlink.Handle) error {
		return links.RouteAdd(&netlink.Route{Dst: network, Gw: server.IPv4.AsSlice()})
	}); err != nil {
		return nil, fmt.Errorf("leading to the server: %w", err)
	}
	// After a connection is reset, what conntrack remembers of it is not to slow down those that come after.
	if err := node.Do(func() error {
		return os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close", []byte("1"), 0)
	}); err != nil {
		return nil, fmt.Errorf("having conntrack forget: %w", err)
	}
	listener, err := server.Listen(ctx, "tcp4", fmt.Sprintf("0.0.0.0:%d", EndpointPort))
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				addr := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().As4()
				_, _ = conn.Write(addr[:]) // the client may be gone
				_ = conn.Close()
			}
		}
	}()
	return listener.Close, nil
}
