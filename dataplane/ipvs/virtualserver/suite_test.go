package virtualserver_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/test/kernel"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// TestMain has everything here run on a kernel with IPVS.
func TestMain(m *testing.M) { os.Exit(kernel.Main(m)) }

func TestVirtualServer(t *testing.T) {
	SetDefaultEventuallyTimeout(time.Minute)
	specs.Run(t, "dataplane/ipvs/virtualserver")
}

// enterNamespace puts the rest of a spec into a network namespace of its own, with the loopback interface up and more
// addresses on it. The thread stays locked, so that it ends with the spec's goroutine, and the namespace with it.
func enterNamespace(addresses ...string) {
	GinkgoHelper()
	Expect(tryNamespace(addresses...)).To(Succeed())
}

func tryNamespace(addresses ...string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace (it needs root): %w", err)
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bringing the loopback interface up: %w", err)
	}
	for _, a := range addresses {
		ip := netip.MustParseAddr(a)
		addr, err := netlink.ParseAddr(netip.PrefixFrom(ip, ip.BitLen()).String())
		if err != nil {
			return fmt.Errorf("reading an address: %w", err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(loopback, addr); err != nil {
			return fmt.Errorf("adding address %s: %w", a, err)
		}
	}
	return nil
}

// open opens the virtual servers of the spec's network namespace.
func open() *virtualserver.Kernel {
	GinkgoHelper()
	servers, err := virtualserver.Open()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(servers.Close)
	return servers
}

// do makes changes, all of which must be possible.
func do(ctx context.Context, servers *virtualserver.Kernel, batch virtualserver.Batch) {
	GinkgoHelper()
	Expect(servers.Do(ctx, batch)).To(BeEmpty())
}

func tcp(addr string) virtualserver.Key {
	return virtualserver.At(netip.MustParseAddrPort(addr), forwarding.TCP)
}

func udp(addr string) virtualserver.Key {
	return virtualserver.At(netip.MustParseAddrPort(addr), forwarding.UDP)
}

func sctp(addr string) virtualserver.Key {
	return virtualserver.At(netip.MustParseAddrPort(addr), forwarding.SCTP)
}

func realServer(addr string, weight uint32) virtualserver.RealServer {
	return virtualserver.RealServer{Addr: netip.MustParseAddrPort(addr), Weight: weight}
}
