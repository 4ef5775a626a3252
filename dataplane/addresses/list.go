package addresses

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

const (
	// dumpAttempts is how often a list is asked for that may have missed addresses, because one changed meanwhile.
	dumpAttempts = 3
	// foreignLink is where kube-proxy in mode ipvs has the addresses of Services. They are not the node's.
	foreignLink = "kube-ipvs0"
)

// List is every address of this machine once, in order, those of loopback and of a link only among them.
func List() ([]netip.Addr, error) {
	var listed []netlink.Addr
	var err error = netlink.ErrDumpInterrupted
	for attempt := 0; attempt < dumpAttempts && errors.Is(err, netlink.ErrDumpInterrupted); attempt++ {
		listed, err = netlink.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of this node: %w", err)
	}
	foreign, err := linkNamed(foreignLink)
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of this node: %w", err)
	}
	addrs := make([]netip.Addr, 0, len(listed))
	for _, a := range listed {
		addr, ok := netip.AddrFromSlice(a.IP)
		if ok && a.LinkIndex != foreign {
			addrs = append(addrs, addr.Unmap())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// linkNamed is the index of an interface, 0 if there is none of that name.
func linkNamed(name string) (int, error) {
	link, err := netlink.LinkByName(name)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking for interface %s: %w", name, err)
	}
	return link.Attrs().Index, nil
}

// Within says whether an address is in one of the networks. Every address is where networks is nil, which is how settings
// say that node ports are open everywhere.
func Within(addr netip.Addr, networks []netip.Prefix) bool {
	return networks == nil || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Usable says whether a virtual server can stand at an address: others can address it, and without naming an interface,
// because it is neither one of loopback nor one of IPv6 for a link only.
func Usable(addr netip.Addr) bool {
	return !addr.IsLoopback() && (addr.Is4() || !addr.IsLinkLocalUnicast())
}
