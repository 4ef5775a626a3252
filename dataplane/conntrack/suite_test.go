package conntrack_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestConntrack(t *testing.T) {
	specs.Run(t, "dataplane/conntrack")
}

// enterNamespace puts the rest of a spec into a network namespace of its own, with the loopback interface up and more
// addresses on it. The thread stays locked, so that it ends with the spec's goroutine, and the namespace with it.
func enterNamespace(addresses ...netip.Addr) error {
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
		addr, err := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
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

// flow is an entry of the connection tracking table: what the client sends to, and what answers.
type flow struct {
	protocol forwarding.Protocol
	to, from string
}

func (f flow) String() string { return fmt.Sprintf("%s %s answered by %s", f.protocol, f.to, f.from) }

func udp(to, from string) flow { return flow{forwarding.UDP, to, from} }

// insert puts flows into the table, each of a client of its own.
func insert(flows ...flow) error {
	for i, f := range flows {
		to, from := netip.MustParseAddrPort(f.to), netip.MustParseAddrPort(f.from)
		client := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
		family := uint8(unix.AF_INET)
		if to.Addr().Is6() {
			client = netip.AddrFrom16([16]byte{0x26, 14: byte(i >> 8), 15: byte(i)})
			family = unix.AF_INET6
		}
		err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(family), &netlink.ConntrackFlow{
			FamilyType: family,
			Forward: netlink.IPTuple{Protocol: uint8(f.protocol), SrcIP: client.AsSlice(), SrcPort: 40000,
				DstIP: to.Addr().AsSlice(), DstPort: to.Port()},
			Reverse: netlink.IPTuple{Protocol: uint8(f.protocol), SrcIP: from.Addr().AsSlice(), SrcPort: from.Port(),
				DstIP: client.AsSlice(), DstPort: 40000},
			TimeOut: 600,
		})
		if err != nil {
			return fmt.Errorf("inserting the flow %s: %w", f, err)
		}
	}
	return nil
}

// flows lists the table of both families.
func flows() ([]flow, error) {
	var found []flow
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		entries, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			return nil, fmt.Errorf("listing flows: %w", err)
		}
		for _, e := range entries {
			to, _ := netip.AddrFromSlice(e.Forward.DstIP)
			from, _ := netip.AddrFromSlice(e.Reverse.SrcIP)
			found = append(found, flow{
				forwarding.Protocol(e.Forward.Protocol),
				netip.AddrPortFrom(to.Unmap(), e.Forward.DstPort).String(),
				netip.AddrPortFrom(from.Unmap(), e.Reverse.SrcPort).String(),
			})
		}
	}
	return found, nil
}

// texts are flows as words, sorted, so that a failure can be read. SCTP goes without ports, because package netlink does
// not read them.
func texts(flows []flow) []string {
	found := make([]string, 0, len(flows))
	for _, f := range flows {
		if f.protocol == forwarding.SCTP {
			f.to, f.from = netip.MustParseAddrPort(f.to).Addr().String(), netip.MustParseAddrPort(f.from).Addr().String()
		}
		found = append(found, f.String())
	}
	slices.Sort(found)
	return found
}

func command(name string, args ...string) {
	GinkgoHelper()
	output, err := exec.Command(name, args...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s %v: %s", name, args, output)
}
