package conformance_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// host is a network namespace without a name: it ends when the last descriptor and socket in it is closed.
type host struct {
	name string
	ns   netns.NsHandle
}

func newHost(name string, sysctls map[string]string) (*host, error) {
	h := &host{name: name}
	err := onOwnThread(func() (err error) {
		if h.ns, err = netns.New(); err != nil {
			return fmt.Errorf("making a network namespace, which needs root: %w", err)
		}
		for key, value := range sysctls {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0); err != nil {
				return fmt.Errorf("setting sysctl net/%s: %w", key, err)
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return h, err
}

// do runs f on a thread in the namespace. Programs that f starts run in it too.
func (h *host) do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("entering the namespace of %s: %w", h.name, err)
		}
		return f()
	})
}

func onOwnThread(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer func() {
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, back) // and the thread ends with the goroutine
		} else {
			runtime.UnlockOSThread()
		}
		_ = home.Close()
	}()
	return f()
}

// rig is a node and those around it, each in a namespace and joined to the node alone:
//
//	pod, external      send packets
//	endpoints          has every address that a backend may have
//	world              where the node's default route leads; has every other address
//
// The links are 198.18.N.0/24, the node being .1, so that a masqueraded packet is seen to come from none of the
// addresses that clients have. Every address is there as its twin too.
type rig struct {
	node, pod, external, endpoints, world *host
	servers                               *servers
}

func newRig(ports []uint16) (*rig, error) {
	quiet := map[string]string{
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		// An endpoint may send to an endpoint: to its host, a packet from one of its own addresses.
		"ipv4/conf/all/accept_local": "1", "ipv4/conf/default/accept_local": "1",
		"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0",
		"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
		"ipv4/conf/all/accept_redirects": "0", "ipv6/conf/all/accept_redirects": "0",
		"ipv4/ip_nonlocal_bind": "1", "ipv6/ip_nonlocal_bind": "1",
	}
	forwards := map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		// Every rejected packet is told so, however many there are.
		"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0",
	}
	maps.Copy(forwards, quiet)
	r := &rig{}
	var err error
	for name, place := range map[string]**host{"pod": &r.pod, "external": &r.external, "endpoints": &r.endpoints, "world": &r.world} {
		if *place, err = newHost(name, quiet); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	if r.node, err = newHost("node", forwards); err != nil {
		return nil, errors.Join(err, r.close())
	}
	if err := r.wire(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	if r.servers, err = serve(ports, r.node, r.endpoints, r.world); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *rig) close() error {
	var errs []error
	if r.servers != nil {
		r.servers.close()
	}
	for _, h := range []*host{r.node, r.pod, r.external, r.endpoints, r.world} {
		if h != nil && h.ns.IsOpen() {
			errs = append(errs, h.ns.Close())
		}
	}
	return errors.Join(errs...)
}

func (r *rig) from(h scenario.Host) *host {
	return map[scenario.Host]*host{
		scenario.Node: r.node, scenario.Pod: r.pod, scenario.External: r.external, scenario.Endpoint: r.endpoints,
	}[h]
}

// wire joins the hosts, and gives them addresses and routes.
func (r *rig) wire() error {
	joined := []struct {
		*host
		// owns are the addresses of the host, anyIP the networks that are local to it as a whole.
		owns, anyIP []string
	}{
		{r.pod, []string{"10.0.0.2/32"}, []string{"10.99.0.0/16"}}, // many pods
		{r.external, []string{"203.0.113.2/32", "203.0.113.130/32"}, nil},
		{r.endpoints, nil, []string{"10.180.0.0/16", "10.0.1.0/24"}},
		{r.world, nil, nil},
	}
	for i, j := range joined {
		link, peer := fmt.Sprintf("198.18.%d.1/24", i), fmt.Sprintf("198.18.%d.2/24", i)
		if err := r.join(j.host, link, peer); err != nil {
			return fmt.Errorf("joining %s to the node: %w", j.name, err)
		}
		reached := slices.Concat(j.owns, j.anyIP)
		if j.host == r.world {
			reached = []string{"0.0.0.0/0"}
		}
		err := r.node.do(func() error { return routes(reached, peer) })
		if err != nil {
			return fmt.Errorf("adding routes to %s: %w", j.name, err)
		}
		err = j.do(func() error {
			if j.host == r.world {
				back := []string{"10.0.0.0/8", "192.168.0.2/32", "192.168.1.2/32", "203.0.113.0/24"}
				return errors.Join(routes(back, link), anyIP([]string{"0.0.0.0/0"}))
			}
			return errors.Join(assign("eth0", j.owns), routes([]string{"0.0.0.0/0"}, link), anyIP(j.anyIP))
		})
		if err != nil {
			return fmt.Errorf("configuring %s: %w", j.name, err)
		}
	}
	return r.node.do(func() error { return assign("external", []string{"192.168.0.2/32", "192.168.1.2/32"}) })
}

// join connects a host to the node with a veth pair, whose ends are named after the host and eth0.
func (r *rig) join(h *host, nodeAddress, address string) error {
	err := r.node.do(func() error {
		attributes := netlink.NewLinkAttrs()
		attributes.Name, attributes.Flags = h.name, net.FlagUp
		veth := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.ns)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return assign(h.name, []string{nodeAddress})
	})
	if err != nil {
		return err
	}
	return h.do(func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(eth0), assign("eth0", []string{address}))
	})
}

// withTwins are networks as package netlink has them, each followed by its IPv6 twin.
func withTwins(networks []string) []*net.IPNet {
	var all []*net.IPNet
	for _, text := range networks {
		p := netip.MustParsePrefix(text)
		for _, p := range []netip.Prefix{p, scenario.TwinPrefix(p)} {
			all = append(all, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
		}
	}
	return all
}

func assign(link string, addresses []string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("finding interface %s: %w", link, err)
	}
	for _, a := range withTwins(addresses) {
		if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: a, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("adding address %s: %w", a, err)
		}
	}
	return nil
}

func unassign(link string, addresses []string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("finding interface %s: %w", link, err)
	}
	for _, a := range withTwins(addresses) {
		if err := netlink.AddrDel(l, &netlink.Addr{IPNet: a}); err != nil {
			return fmt.Errorf("removing address %s: %w", a, err)
		}
	}
	return nil
}

func routes(networks []string, via string) error {
	gateways := withTwins([]string{via})
	for i, network := range withTwins(networks) {
		if err := netlink.RouteAdd(&netlink.Route{Dst: network, Gw: gateways[i%2].IP}); err != nil {
			return fmt.Errorf("adding a route to %s: %w", network, err)
		}
	}
	return nil
}

// anyIP makes every address of some networks local. The routes are in the main table, where more specific ones win.
func anyIP(networks []string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, network := range withTwins(networks) {
		route := &netlink.Route{
			Dst: network, LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: unix.RT_TABLE_MAIN,
		}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("making %s local: %w", network, err)
		}
	}
	return nil
}
