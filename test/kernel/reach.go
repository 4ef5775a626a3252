package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/relay"
)

// reachVariable tells a program where it finds the addresses of Program.Reach, as ADDRESS=WHERE, separated by spaces.
const reachVariable = "SERVICE_PROXY_KERNEL_REACH"

// Reached returns where a program finds an address of Program.Reach of whoever runs it. It is the address itself on the
// kernel of the machine.
func Reached(address string) string {
	for pair := range strings.FieldsSeq(os.Getenv(reachVariable)) {
		if from, to, _ := strings.Cut(pair, "="); from == address {
			return to
		}
	}
	return address
}

// The network between the two kernels: a cable with an address of the range for tests of devices (RFC 2544) at each end.
const (
	tapName = "tap0"
	outside = "198.18.0.1/30"
	inside  = "198.18.0.2/30"
)

// network is the outer end of the cable, in a network namespace that nobody else has.
type network struct {
	relays map[string]*relay.Relay
}

// newNetwork moves the calling thread, which must be locked, into a new network namespace, and makes the end of a cable
// there, with a relay to each of the addresses. They are connected to from where all other threads are.
func newNetwork(reach []string) (*network, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("making a network namespace (it needs root): %w", err)
	}
	if err := addTap(); err != nil {
		return nil, fmt.Errorf("making a network for user-mode Linux: %w", err)
	}
	n := &network{relays: map[string]*relay.Relay{}}
	for _, address := range reach {
		here := netip.MustParsePrefix(outside).Addr()
		listener, err := net.Listen("tcp4", netip.AddrPortFrom(here, 0).String())
		if err != nil {
			n.close()
			return nil, fmt.Errorf("making %s reachable: %w", address, err)
		}
		n.relays[address] = relay.Start(listener, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		})
	}
	return n, nil
}

func addTap() error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = tapName
	tap := &netlink.Tuntap{LinkAttrs: attributes, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("adding %s: %w", tapName, err)
	}
	for _, file := range tap.Fds {
		if err := file.Close(); err != nil {
			return fmt.Errorf("adding %s: %w", tapName, err)
		}
	}
	address, err := netlink.ParseAddr(outside)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(tap, address), netlink.LinkSetUp(tap))
}

// env tells the program where it finds what.
func (n *network) env() string {
	var pairs []string
	for address, r := range n.relays {
		pairs = append(pairs, address+"="+r.Address())
	}
	return reachVariable + "=" + strings.Join(pairs, " ")
}

// card is the inner end of the cable, as the kernel and its first process are told. Without gro it has no room for the
// large packets that it lets the outer kernel send.
func card() []string {
	return []string{"vec0:transport=tap,ifname=" + tapName + ",mac=02:00:c6:12:00:02,gro=1", "NETWORK=" + inside}
}

func (n *network) close() {
	for _, r := range n.relays {
		r.Close()
	}
}
