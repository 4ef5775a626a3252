package cluster

import (
	"fmt"
	"net"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// addresses are the networks of a cluster in one IP family.
type addresses struct {
	family   corev1.IPFamily
	lan      netip.Prefix // nodes and the control plane
	outside  netip.Prefix // clients behind the router
	services netip.Prefix
}

// Numbers of hosts in the LAN and outside. Node n is number nodeNumber+n, from 1.
const (
	routerNumber       = 1
	controlPlaneNumber = 2
	outsideNumber      = 2
	nodeNumber         = 10
	maxNodes           = 240
)

// maxPods is the number of pods of a node, as many as its IPv4 pod network can address.
const maxPods = 253

// addressesOf returns the networks of an IP family.
func addressesOf(family corev1.IPFamily) (addresses, error) {
	switch family {
	case corev1.IPv4Protocol:
		return addresses{
			family:   family,
			lan:      netip.MustParsePrefix("192.168.77.0/24"),
			outside:  netip.MustParsePrefix("203.0.113.0/24"),
			services: netip.MustParsePrefix("10.96.0.0/16"),
		}, nil
	case corev1.IPv6Protocol:
		return addresses{
			family:   family,
			lan:      netip.MustParsePrefix("fd77::/64"),
			outside:  netip.MustParsePrefix("2001:db8:113::/64"),
			services: netip.MustParsePrefix("fd00:10:96::/112"),
		}, nil
	default:
		return addresses{}, fmt.Errorf("there is no IP family %q", family)
	}
}

// pods returns the network of the pods of node n.
func (a addresses) pods(n int) netip.Prefix {
	if a.family == corev1.IPv4Protocol {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24)
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", n))
}

// anywhere returns the prefix of a default route.
func (a addresses) anywhere() netip.Prefix {
	return netip.PrefixFrom(a.lan.Addr(), 0).Masked()
}

// numbered returns address number n of a network, with the length of the network. In IPv6 n reads the same in the
// address as in decimal.
func numbered(network netip.Prefix, n int) netip.Prefix {
	if network.Addr().Is4() {
		address := network.Addr().As4()
		address[3] += byte(n)
		return netip.PrefixFrom(netip.AddrFrom4(address), network.Bits())
	}
	address := netip.MustParseAddr(fmt.Sprintf("%s%d", network.Masked().Addr(), n))
	return netip.PrefixFrom(address, network.Bits())
}

// alone returns the prefix that holds one address only.
func alone(address netip.Addr) netip.Prefix {
	return netip.PrefixFrom(address, address.BitLen())
}

// hardwareAddress returns the MAC address of the interface that has an IP address: always the same, so that whoever
// still knows the last owner of the address knows the next one too.
func hardwareAddress(address netip.Addr) net.HardwareAddr {
	bytes := address.AsSlice()
	return append(net.HardwareAddr{0x02, 0x00}, bytes[len(bytes)-4:]...)
}
