package addresses_test

import (
	"runtime"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestAddresses(t *testing.T) {
	SetDefaultEventuallyTimeout(time.Minute)
	specs.Run(t, "dataplane/addresses")
}

// enterNamespace puts the rest of a spec into a network namespace of its own, with the loopback interface up. The thread
// stays locked, so that it ends with the spec's goroutine, and the namespace with it.
func enterNamespace() {
	GinkgoHelper()
	runtime.LockOSThread()
	Expect(unix.Unshare(unix.CLONE_NEWNET)).To(Succeed(), "making a network namespace needs root")
	loopback, err := netlink.LinkByName("lo")
	Expect(err).NotTo(HaveOccurred())
	Expect(netlink.LinkSetUp(loopback)).To(Succeed())
}

// addLink makes an interface that is up.
func addLink(name string) {
	GinkgoHelper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// A bridge, because not every kernel has dummy interfaces.
	link := &netlink.Bridge{LinkAttrs: attrs}
	Expect(netlink.LinkAdd(link)).To(Succeed())
	Expect(netlink.LinkSetUp(link)).To(Succeed())
}

// address is an address of an interface, as in "192.0.2.2/24", without duplicate address detection.
func address(text, linkName string) (netlink.Link, *netlink.Addr) {
	GinkgoHelper()
	link, err := netlink.LinkByName(linkName)
	Expect(err).NotTo(HaveOccurred())
	addr, err := netlink.ParseAddr(text)
	Expect(err).NotTo(HaveOccurred())
	addr.Flags = unix.IFA_F_NODAD
	return link, addr
}

func addAddress(text, linkName string) {
	GinkgoHelper()
	link, addr := address(text, linkName)
	Expect(netlink.AddrAdd(link, addr)).To(Succeed())
}

func removeAddress(text, linkName string) {
	GinkgoHelper()
	link, addr := address(text, linkName)
	Expect(netlink.AddrDel(link, addr)).To(Succeed())
}
