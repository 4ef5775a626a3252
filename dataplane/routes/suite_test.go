package routes_test

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestRoutes(t *testing.T) {
	SetDefaultEventuallyTimeout(time.Minute)
	specs.Run(t, "dataplane/routes")
}

// plan is the addresses of the specs in one family.
type plan struct {
	ipv6 bool
	// node is an address of the node, spare one that it can get.
	node, spare string
	// services is the range of cluster IPs, web and db are in it, outside is not.
	services, web, db, outside string
	everything                 string
}

var plans = map[string]plan{
	"IPv4": {
		node: "192.0.2.2", spare: "192.0.2.3",
		services: "172.30.0.0/16", web: "172.30.0.1", db: "172.30.77.9", outside: "198.51.100.7", everything: "0.0.0.0/0",
	},
	"IPv6": {
		ipv6: true, node: "2001:db8::2", spare: "2001:db8::3",
		services: "fd00:30::/108", web: "fd00:30::1", db: "fd00:30::7709", outside: "2001:db8:51::7", everything: "::/0",
	},
}

// enterNode puts the rest of a spec into a network namespace of its own, with the loopback interface up, and another
// one with the node's address, to which all else is routed. The thread stays locked, so that it ends with the spec's
// goroutine, and the namespace with it.
func (p plan) enterNode() {
	GinkgoHelper()
	runtime.LockOSThread()
	Expect(unix.Unshare(unix.CLONE_NEWNET)).To(Succeed(), "making a network namespace needs root")
	Expect(netlink.LinkSetUp(link("lo"))).To(Succeed())
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	Expect(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"})).To(Succeed())
	Expect(netlink.LinkSetUp(link("peer"))).To(Succeed())
	Expect(netlink.LinkSetUp(link("eth0"))).To(Succeed())
	Expect(netlink.AddrAdd(link("eth0"), p.address(p.node))).To(Succeed())
	toPeer := &netlink.Route{Dst: ipNet(p.everything), LinkIndex: link("eth0").Attrs().Index, Scope: netlink.SCOPE_LINK}
	Expect(netlink.RouteAdd(toPeer)).To(Succeed())
	Eventually(p.others).Should(ContainElement(HavePrefix("local "+p.node)), "which IPv6 takes a moment for")
}

func (p plan) family() int {
	if p.ipv6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

func (p plan) address(text string) *netlink.Addr {
	GinkgoHelper()
	addr, err := netlink.ParseAddr(prefix(text).String())
	Expect(err).NotTo(HaveOccurred())
	addr.Flags = unix.IFA_F_NODAD
	return addr
}

// ours are the routes of ours as the kernel has them, in words and in order. others are the local ones of others, without
// those for a link only, which come when they like.
func (p plan) ours() []string {
	return p.listed(func(r netlink.Route) bool { return r.Protocol == routes.Protocol })
}

func (p plan) others() []string {
	return p.listed(func(r netlink.Route) bool { return r.Protocol != routes.Protocol && !r.Dst.IP.IsLinkLocalUnicast() })
}

func (p plan) listed(take func(netlink.Route) bool) []string {
	GinkgoHelper()
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}
	found, err := netlink.RouteListFiltered(p.family(), filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	Expect(err).NotTo(HaveOccurred())
	texts := []string{}
	for _, r := range found {
		if !take(r) {
			continue
		}
		text := "local " + r.Dst.String()
		if r.Src != nil {
			text += " src " + r.Src.String()
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return texts
}

// sync has the kernel match.
func (p plan) sync(ctx context.Context, wanted ...routes.Route) int {
	GinkgoHelper()
	written, err := routes.Sync(ctx, p.ipv6, wanted)
	Expect(err).NotTo(HaveOccurred())
	return written
}

// leads is how a packet from here to an address goes: the type of its route, its interface and source.
func leads(to string) string {
	GinkgoHelper()
	found, err := netlink.RouteGet(netip.MustParseAddr(to).AsSlice())
	Expect(err).NotTo(HaveOccurred())
	Expect(found).To(HaveLen(1))
	name := "eth0"
	if found[0].Type == unix.RTN_LOCAL {
		name = "here"
	}
	return name + " from " + found[0].Src.String()
}

func link(name string) netlink.Link {
	GinkgoHelper()
	found, err := netlink.LinkByName(name)
	Expect(err).NotTo(HaveOccurred())
	return found
}

// prefix is a network, or the network of one address.
func prefix(text string) netip.Prefix {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	return netip.MustParsePrefix(text)
}

func local(to, source string) routes.Route {
	return routes.Route{Prefix: prefix(to), Type: routes.Local, Source: netip.MustParseAddr(source)}
}

func throw(to string) routes.Route { return routes.Route{Prefix: prefix(to), Type: routes.Throw} }
