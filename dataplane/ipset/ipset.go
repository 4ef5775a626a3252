// Package ipset makes, lists and removes sets of addresses in the kernel (ipset(8)), by netlink: no program is started.
package ipset

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// maxElements is how many addresses a set of clients may hold. The kernel's own default, 65536, is fewer than there are
// clients behind a busy gateway; memory is taken as the set fills.
const maxElements = 1 << 20

// Clients makes a set of addresses of one family that forgets each after some seconds. A set of that name must not
// exist.
func Clients(name string, ipv6 bool, seconds uint32) error {
	options := netlink.IpsetCreateOptions{Family: unix.AF_INET, Timeout: &seconds, MaxElements: maxElements}
	if ipv6 {
		options.Family = unix.AF_INET6
	}
	if err := netlink.IpsetCreate(name, "hash:ip", options); err != nil {
		return fmt.Errorf("making the set %s: %w", name, err)
	}
	return nil
}

// Destroy removes a set that no rule refers to. It is no error if there is none.
func Destroy(name string) error {
	if err := netlink.IpsetDestroy(name); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing the set %s: %w", name, err)
	}
	return nil
}

// flagListNames asks for the names of sets only: IPSET_FLAG_LIST_SETNAME in linux/netfilter/ipset/ip_set.h.
const flagListNames = 1 << 1

// Names lists the sets whose names begin with a prefix. A kernel without sets has none.
func Names(prefix string) ([]string, error) {
	request := nl.NewNetlinkRequest(nl.IPSET_CMD_LIST|unix.NFNL_SUBSYS_IPSET<<8, nl.GetIpsetFlags(nl.IPSET_CMD_LIST))
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_NETLINK, Version: nl.NFNETLINK_V0})
	request.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	request.AddData(&nl.Uint32Attribute{Type: nl.IPSET_ATTR_FLAGS | nl.NLA_F_NET_BYTEORDER, Value: flagListNames})
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		if errno := unix.Errno(0); errors.As(err, &errno) && (errno == unix.EINVAL || errno == unix.EOPNOTSUPP || errno == unix.EPROTONOSUPPORT) {
			return nil, nil
		}
		return nil, fmt.Errorf("listing sets: %w", err)
	}
	var names []string
	for _, m := range messages {
		attributes, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, fmt.Errorf("reading the list of sets: %w", err)
		}
		for _, a := range attributes {
			if a.Attr.Type != nl.IPSET_ATTR_SETNAME {
				continue
			}
			if name := strings.TrimRight(string(a.Value), "\x00"); strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}
