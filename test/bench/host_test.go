package bench

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace without a name, which goes with the test.
type host struct{ ns netns.NsHandle }

func newHost(tb testing.TB) *host {
	tb.Helper()
	h := &host{ns: netns.None()}
	err := onOwnThread(func() (err error) {
		h.ns, err = netns.New()
		return err
	})
	if err != nil {
		tb.Fatalf("making a network namespace (it needs root): %v", err)
	}
	tb.Cleanup(func() { _ = h.ns.Close() })
	h.configure(tb, func(links *netlink.Handle) error { return up(links, "lo") })
	return h
}

// onOwnThread runs f on a thread that ends with it.
func onOwnThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		result <- f()
	}()
	return <-result
}

// do runs f in the namespace. Processes and sockets that it makes are there for good.
func (h *host) do(tb testing.TB, f func() error) {
	tb.Helper()
	err := onOwnThread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return f()
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func (h *host) configure(tb testing.TB, f func(*netlink.Handle) error) {
	tb.Helper()
	links, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
	if err != nil {
		tb.Fatalf("opening a netlink socket: %v", err)
	}
	defer links.Close()
	if err := f(links); err != nil {
		tb.Fatal(err)
	}
}

// sysctl sets sysctls below /proc/sys/net.
func (h *host) sysctl(tb testing.TB, values map[string]string) {
	tb.Helper()
	h.do(tb, func() error {
		for name, value := range values {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0); err != nil {
				return fmt.Errorf("setting a sysctl: %w", err)
			}
		}
		return nil
	})
}

// connect joins two hosts with a veth pair. Each end is named after the other host and has an address.
func connect(tb testing.TB, a *host, nameAtA string, addrA netip.Prefix, b *host, nameAtB string, addrB netip.Prefix) {
	tb.Helper()
	a.configure(tb, func(links *netlink.Handle) error {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = nameAtA
		return links.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: nameAtB, PeerNamespace: netlink.NsFd(b.ns)})
	})
	for _, end := range []struct {
		at   *host
		name string
		addr netip.Prefix
	}{{a, nameAtA, addrA}, {b, nameAtB, addrB}} {
		end.at.configure(tb, func(links *netlink.Handle) error {
			link, err := links.LinkByName(end.name)
			if err != nil {
				return err
			}
			if err := links.AddrAdd(link, &netlink.Addr{IPNet: ipNet(end.addr)}); err != nil {
				return err
			}
			return links.LinkSetUp(link)
		})
	}
}

// route sends a prefix via a neighbour.
func (h *host) route(tb testing.TB, to netip.Prefix, via netip.Addr) {
	tb.Helper()
	h.configure(tb, func(links *netlink.Handle) error {
		return links.RouteAdd(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()})
	})
}

// answerTo makes every address of a prefix the host's own.
func (h *host) answerTo(tb testing.TB, p netip.Prefix) {
	tb.Helper()
	h.configure(tb, func(links *netlink.Handle) error {
		lo, err := links.LinkByName("lo")
		if err != nil {
			return err
		}
		return links.RouteAdd(&netlink.Route{
			Dst: ipNet(p), LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST,
		})
	})
}

func up(links *netlink.Handle, name string) error {
	link, err := links.LinkByName(name)
	if err != nil {
		return err
	}
	return links.LinkSetUp(link)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
