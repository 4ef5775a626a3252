package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Names of interfaces.
const (
	lanBridge    = "lan"     // on the fabric: what all nodes are attached to
	outsidePort  = "outside" // on the fabric: towards the outside
	hostPort     = "eth0"    // on every other host: its way to the world
	podBridge    = "cni0"    // on a node: what its pods are attached to
	outsideTable = 113       // on the fabric: routes for what comes from outside
)

// newFabric makes the router: the LAN is a bridge on it.
func newFabric(h *Host, networks []addresses) error {
	return h.Configure(func(links *netlink.Handle) error {
		// Frames between hosts of the LAN are none of the router's business.
		if err := writeSysctls(map[string]string{
			"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-ip6tables": "0",
		}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		bridge, err := addBridge(links, lanBridge, numbered(networks[0].lan, routerNumber).Addr())
		if err != nil {
			return err
		}
		for _, network := range networks {
			if err := addAddress(links, bridge, numbered(network.lan, routerNumber)); err != nil {
				return err
			}
			rule := netlink.NewRule()
			rule.Family = familyNumber(network.lan)
			rule.IifName = outsidePort
			rule.Table = outsideTable
			rule.Priority = 100
			if err := links.RuleAdd(rule); err != nil {
				return fmt.Errorf("adding a rule for what comes from outside: %w", err)
			}
		}
		return nil
	})
}

// attachToLAN gives a host an interface on the LAN, its addresses there, and a default route to the router.
func attachToLAN(fabric, h *Host, port string, number int, networks []addresses) error {
	if err := connect(fabric, port, lanBridge, h, numbered(networks[0].lan, number).Addr()); err != nil {
		return fmt.Errorf("attaching %s to the LAN: %w", h.Name, err)
	}
	return h.Configure(func(links *netlink.Handle) error {
		eth0, err := linkUp(links, hostPort)
		if err != nil {
			return err
		}
		for _, network := range networks {
			address := numbered(network.lan, number)
			if err := addAddress(links, eth0, address); err != nil {
				return err
			}
			router := numbered(network.lan, routerNumber).Addr()
			if err := addRoute(links, network.anywhere(), router); err != nil {
				return err
			}
			h.setAddress(address.Addr())
		}
		return nil
	})
}

// attachOutside gives a host an interface on the network behind the router.
func attachOutside(fabric, h *Host, networks []addresses) error {
	if err := connect(fabric, outsidePort, "", h, numbered(networks[0].outside, outsideNumber).Addr()); err != nil {
		return fmt.Errorf("attaching the outside: %w", err)
	}
	err := fabric.Configure(func(links *netlink.Handle) error {
		port, err := linkUp(links, outsidePort)
		if err != nil {
			return err
		}
		for _, network := range networks {
			if err := addAddress(links, port, numbered(network.outside, routerNumber)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return h.Configure(func(links *netlink.Handle) error {
		eth0, err := linkUp(links, hostPort)
		if err != nil {
			return err
		}
		for _, network := range networks {
			address := numbered(network.outside, outsideNumber)
			if err := addAddress(links, eth0, address); err != nil {
				return err
			}
			if err := addRoute(links, network.anywhere(), numbered(network.outside, routerNumber).Addr()); err != nil {
				return err
			}
			h.setAddress(address.Addr())
		}
		return nil
	})
}

// newPodNetwork gives a node the bridge its pods are attached to.
func newPodNetwork(node *Host, networks []netip.Prefix) error {
	return node.Configure(func(links *netlink.Handle) error {
		bridge, err := addBridge(links, podBridge, numbered(networks[0], routerNumber).Addr())
		if err != nil {
			return err
		}
		for _, network := range networks {
			if err := addAddress(links, bridge, numbered(network, routerNumber)); err != nil {
				return err
			}
		}
		return nil
	})
}

// attachPod gives a pod an interface on the bridge of its node. The pod has its address alone and not the network
// around it, so that packets to other pods of the node are routed by the node, and replies come back through the
// node's translation of service addresses whether or not the kernel shows bridged packets to iptables.
func attachPod(node *Host, port string, pod *Host, number int, networks []netip.Prefix) error {
	if err := connect(node, port, podBridge, pod, numbered(networks[0], number).Addr()); err != nil {
		return fmt.Errorf("attaching pod %s: %w", pod.Name, err)
	}
	if err := allowHairpin(node, port); err != nil {
		return fmt.Errorf("attaching pod %s: %w", pod.Name, err)
	}
	return pod.Configure(func(links *netlink.Handle) error {
		eth0, err := linkUp(links, hostPort)
		if err != nil {
			return err
		}
		for _, network := range networks {
			address, gateway := numbered(network, number).Addr(), numbered(network, routerNumber).Addr()
			if err := addAddress(links, eth0, alone(address)); err != nil {
				return err
			}
			if err := links.RouteAdd(&netlink.Route{
				LinkIndex: eth0.Attrs().Index, Dst: ipNet(alone(gateway)), Scope: netlink.SCOPE_LINK,
			}); err != nil {
				return fmt.Errorf("adding a route to %s: %w", gateway, err)
			}
			anywhere := netip.PrefixFrom(gateway, 0).Masked()
			if err := addRoute(links, anywhere, gateway); err != nil {
				return err
			}
			pod.setAddress(address)
		}
		return nil
	})
}

// allowHairpin lets a bridge send a packet back through the port that it came from, as CNI plugins do: with
// bridge-nf-call-iptables, which is on, the bridge itself forwards what is translated on its way through. A pod could not
// reach itself through its Service otherwise.
func allowHairpin(node *Host, port string) error {
	return node.Configure(func(links *netlink.Handle) error {
		link, err := links.LinkByName(port)
		if err != nil {
			return fmt.Errorf("finding port %s: %w", port, err)
		}
		if err := links.LinkSetHairpin(link, true); err != nil {
			return fmt.Errorf("setting hairpin mode of port %s: %w", port, err)
		}
		return nil
	})
}

// connect joins two hosts with a veth pair: port on the first, attached to its bridge unless that is empty, and eth0,
// which is to have the address, on the other.
func connect(h *Host, port, bridge string, other *Host, address netip.Addr) error {
	return h.Configure(func(links *netlink.Handle) error {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = port
		attributes.Flags = net.FlagUp
		if bridge != "" {
			master, err := links.LinkByName(bridge)
			if err != nil {
				return fmt.Errorf("finding bridge %s: %w", bridge, err)
			}
			attributes.MasterIndex = master.Attrs().Index
		}
		return other.ns.withDescriptor(func(fd int) error {
			veth := &netlink.Veth{
				LinkAttrs: attributes, PeerName: hostPort, PeerNamespace: netlink.NsFd(fd),
				PeerHardwareAddr: hardwareAddress(address),
			}
			if err := links.LinkAdd(veth); err != nil {
				return fmt.Errorf("adding veth pair %s: %w", port, err)
			}
			return nil
		})
	})
}

// disconnect removes an interface, and with it the other end of the pair.
func disconnect(h *Host, port string) error {
	return h.Configure(func(links *netlink.Handle) error {
		link, err := links.LinkByName(port)
		if err != nil {
			return fmt.Errorf("finding interface %s: %w", port, err)
		}
		if err := links.LinkDel(link); err != nil {
			return fmt.Errorf("removing interface %s: %w", port, err)
		}
		return nil
	})
}

// addBridge adds a bridge that is to have the address. Left alone, it would take its MAC address from its ports, and
// change it as they come and go.
func addBridge(links *netlink.Handle, name string, address netip.Addr) (netlink.Link, error) {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = name
	attributes.HardwareAddr = hardwareAddress(address)
	snooping := false // Neighbour discovery is multicast; nobody here asks for it in the way that snooping expects.
	if err := links.LinkAdd(&netlink.Bridge{LinkAttrs: attributes, MulticastSnooping: &snooping}); err != nil {
		return nil, fmt.Errorf("adding bridge %s: %w", name, err)
	}
	return linkUp(links, name)
}

func linkUp(links *netlink.Handle, name string) (netlink.Link, error) {
	link, err := links.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("finding interface %s: %w", name, err)
	}
	if err := links.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("setting interface %s up: %w", name, err)
	}
	return link, nil
}

func addAddress(links *netlink.Handle, link netlink.Link, address netip.Prefix) error {
	if err := links.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address), Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("adding address %s to %s: %w", address, link.Attrs().Name, err)
	}
	return nil
}

func addRoute(links *netlink.Handle, to netip.Prefix, via netip.Addr) error {
	if err := links.RouteAdd(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("adding a route to %s via %s: %w", to, via, err)
	}
	return nil
}

func deleteRoute(links *netlink.Handle, to netip.Prefix) error {
	if err := links.RouteDel(&netlink.Route{Dst: ipNet(to)}); err != nil {
		return fmt.Errorf("deleting the route to %s: %w", to, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func familyNumber(p netip.Prefix) int {
	if p.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
