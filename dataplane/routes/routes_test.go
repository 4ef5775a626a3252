package routes_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
)

var _ = Describe("Sync", func() {
	for family, p := range plans {
		Describe(family, func() {
			It("takes a whole range for the node's own, and connects to it from the node's address", func(ctx context.Context) {
				p.enterNode()
				Expect(p.sync(ctx, local(p.services, p.node), local(p.outside, p.node))).To(Equal(2))
				Expect(p.ours()).To(ConsistOf("local "+p.services+" src "+p.node, local(p.outside, p.node).String()))

				listener, err := net.Listen("tcp", ":8080")
				Expect(err).NotTo(HaveOccurred())
				DeferCleanup(listener.Close)
				for _, to := range []string{p.web, p.db, p.outside} {
					Expect(leads(to)).To(Equal("here from " + p.node))
					conn, err := net.DialTimeout("tcp", net.JoinHostPort(to, "8080"), 5*time.Second)
					Expect(err).NotTo(HaveOccurred())
					accepted, err := listener.Accept()
					Expect(err).NotTo(HaveOccurred())
					client := netip.MustParseAddrPort(accepted.RemoteAddr().String())
					Expect(client.Addr().Unmap().String()).To(Equal(p.node))
					Expect(conn.Close()).To(Succeed())
					Expect(accepted.Close()).To(Succeed())
				}
			})

			for _, ruled := range []bool{false, true} {
				It(fmt.Sprintf("leaves single addresses of a range to the routes of the node, with rules of others: %v", ruled), func(ctx context.Context) {
					p.enterNode()
					if ruled {
						// From then on Linux looks the tables local and main up one after the other.
						rule := netlink.NewRule()
						rule.Family, rule.Table, rule.Priority, rule.Src = p.family(), 100, 100, ipNet(p.outside)
						Expect(netlink.RuleAdd(rule)).To(Succeed())
					}
					p.sync(ctx, local(p.services, p.node), throw(p.db))
					Expect(leads(p.web)).To(Equal("here from " + p.node))
					Expect(leads(p.db)).To(Equal("eth0 from " + p.node))
				})
			}

			It("writes the difference", func(ctx context.Context) {
				p.enterNode()
				Expect(netlink.AddrAdd(link("eth0"), p.address(p.spare))).To(Succeed())
				Eventually(p.others).Should(ContainElement(HavePrefix("local "+p.spare)), "which IPv6 takes a moment for")
				before := p.others()
				wanted := []routes.Route{local(p.services, p.node), local(p.outside, p.node)}
				Expect(p.sync(ctx, wanted...)).To(Equal(2))
				Expect(p.sync(ctx, wanted...)).To(BeZero())

				By("another source, and a route that is gone")
				wanted = []routes.Route{local(p.services, p.spare)}
				Expect(p.sync(ctx, wanted...)).To(Equal(2))
				Expect(p.ours()).To(ConsistOf(wanted[0].String()))
				Expect(leads(p.web)).To(Equal("here from " + p.spare))
				Expect(leads(p.outside)).To(HavePrefix("eth0"))

				By("no source")
				wanted = []routes.Route{{Prefix: prefix(p.services), Type: routes.Local}}
				Expect(p.sync(ctx, wanted...)).To(Equal(1))
				Expect(p.ours()).To(ConsistOf(wanted[0].String()))
				Expect(leads(p.web)).To(HavePrefix("here"))

				By("an address that is left alone, and no longer is")
				gaps := netip.MustParsePrefix(p.services)
				pieces := gaps.Addr().BitLen() - gaps.Bits()
				Expect(p.sync(ctx, wanted[0], throw(p.db))).To(Equal(pieces + 1))
				Expect(p.sync(ctx, wanted[0], throw(p.db))).To(BeZero())
				Expect(p.sync(ctx, wanted[0])).To(Equal(pieces + 1))

				By("none at all")
				Expect(p.sync(ctx)).To(Equal(1))
				Expect(p.ours()).To(BeEmpty())
				Expect(p.others()).To(Equal(before))
			})

			It("puts back what somebody removed", func(ctx context.Context) {
				p.enterNode()
				wanted := []routes.Route{local(p.services, p.node), local(p.outside, p.node)}
				p.sync(ctx, wanted...)
				removed := &netlink.Route{Dst: ipNet(p.outside), Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, LinkIndex: 1, Scope: netlink.SCOPE_HOST}
				Expect(netlink.RouteDel(removed)).To(Succeed())
				Expect(p.ours()).To(ConsistOf(wanted[0].String()))
				Expect(p.sync(ctx, wanted...)).To(Equal(1))
				Expect(p.ours()).To(ConsistOf(wanted[0].String(), wanted[1].String()))
			})

			It("names the source that the node does not have, and makes the other routes", func(ctx context.Context) {
				p.enterNode()
				written, err := routes.Sync(ctx, p.ipv6, []routes.Route{local(p.services, p.spare), local(p.outside, p.node)})
				Expect(written).To(Equal(1))
				Expect(err).To(MatchError(routes.ErrNoSource))
				Expect(err).To(MatchError(ContainSubstring("local " + p.services + " src " + p.spare)))
				Expect(p.ours()).To(ConsistOf(local(p.outside, p.node).String()))

				By("it gets the address, loses it, and gets another source")
				Expect(netlink.AddrAdd(link("eth0"), p.address(p.spare))).To(Succeed())
				Eventually(p.others).Should(ContainElement(HavePrefix("local "+p.spare)), "which IPv6 takes a moment for")
				Expect(p.sync(ctx, local(p.services, p.spare))).To(Equal(2))
				Expect(netlink.AddrDel(link("eth0"), p.address(p.spare))).To(Succeed())
				Expect(p.sync(ctx, local(p.services, p.node))).To(Equal(1))
				Expect(p.ours()).To(ConsistOf(local(p.services, p.node).String()))
			})

			It("leaves the routes of others alone, and says whose address it cannot have", func(ctx context.Context) {
				p.enterNode()
				foreign := &netlink.Route{
					Dst: ipNet(p.outside), Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Protocol: unix.RTPROT_STATIC,
					LinkIndex: link("lo").Attrs().Index, Scope: netlink.SCOPE_HOST,
				}
				Expect(netlink.RouteAdd(foreign)).To(Succeed())
				before := p.others()
				wanted := []routes.Route{local(p.outside, p.node), local(p.services, p.node)}
				for range 2 {
					_, err := routes.Sync(ctx, p.ipv6, wanted)
					Expect(err).To(MatchError(routes.ErrTaken))
					Expect(err).To(MatchError(ContainSubstring(p.outside)))
					var failure *routes.Failure
					Expect(errors.As(err, &failure)).To(BeTrue())
					Expect(failure.Route).To(Equal(wanted[0]))
					Expect(p.ours()).To(ConsistOf(wanted[1].String()))
					Expect(p.others()).To(Equal(before))
				}
				p.sync(ctx)
				Expect(p.ours()).To(BeEmpty())
				Expect(p.others()).To(Equal(before))
			})

			It("writes thousands at once", func(ctx context.Context) {
				p.enterNode()
				wanted := make([]routes.Route, 0, 5000)
				addr := prefix(p.services).Addr()
				for range cap(wanted) {
					addr = addr.Next()
					wanted = append(wanted, local(addr.String(), p.node))
				}
				Expect(p.sync(ctx, wanted...)).To(Equal(len(wanted)))
				Expect(p.ours()).To(HaveLen(len(wanted)))
				Expect(p.sync(ctx, wanted...)).To(BeZero())
				Expect(p.sync(ctx)).To(Equal(len(wanted)))
				Expect(p.ours()).To(BeEmpty())
			})
		})
	}

	DescribeTable("leaves gaps in ranges", func(ctx context.Context, ranges, gaps, want []string) {
		p := plans["IPv4"]
		p.enterNode()
		var wanted []routes.Route
		for _, to := range ranges {
			wanted = append(wanted, local(to, p.node))
		}
		for _, to := range gaps {
			wanted = append(wanted, throw(to))
		}
		p.sync(ctx, wanted...)
		expected := []string{}
		for _, to := range want {
			expected = append(expected, local(to, p.node).String())
		}
		Expect(p.ours()).To(ConsistOf(expected))
	},
		Entry("none", []string{"10.0.0.0/8", "192.0.2.77/32"}, nil, []string{"10.0.0.0/8", "192.0.2.77/32"}),
		Entry("outside of them", []string{"10.0.0.0/8"}, []string{"192.0.2.77/32"}, []string{"10.0.0.0/8"}),
		Entry("as wide as one", []string{"10.0.0.0/8", "192.0.2.77/32"}, []string{"10.0.0.0/8"}, []string{"192.0.2.77/32"}),
		Entry("wider", []string{"10.1.0.0/16"}, []string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}),
		Entry("of one half", []string{"10.0.0.0/8"}, []string{"10.128.0.0/9"}, []string{"10.0.0.0/9"}),
		Entry("of both halves", []string{"10.0.0.0/8"}, []string{"10.128.0.0/9", "10.0.0.0/9"}, nil),
		Entry("of one address", []string{"10.0.0.0/29"}, []string{"10.0.0.5/32"}, []string{"10.0.0.0/30", "10.0.0.4/32", "10.0.0.6/31"}),
		Entry("of two addresses", []string{"10.0.0.0/29"}, []string{"10.0.0.5/32", "10.0.0.0/32"},
			[]string{"10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32", "10.0.0.6/31"}),
		Entry("at both ends", []string{"10.0.0.0/30"}, []string{"10.0.0.0/32", "10.0.0.3/32"}, []string{"10.0.0.1/32", "10.0.0.2/32"}),
		Entry("one within the other", []string{"10.0.0.0/30"}, []string{"10.0.0.0/31", "10.0.0.1/32"}, []string{"10.0.0.2/31"}),
		Entry("with a single address in one", []string{"10.0.0.0/30", "10.0.0.3/32"}, []string{"10.0.0.2/31"},
			[]string{"10.0.0.0/31", "10.0.0.3/32"}),
		Entry("with more bits than their networks", []string{"10.0.0.9/29"}, []string{"10.0.0.13/30"}, []string{"10.0.0.8/30"}),
	)

	It("keeps to one family", func(ctx context.Context) {
		v4, v6 := plans["IPv4"], plans["IPv6"]
		v4.enterNode()
		Expect(netlink.AddrAdd(link("eth0"), v6.address(v6.node))).To(Succeed())
		Eventually(v6.others).Should(ContainElement(HavePrefix("local "+v6.node)), "which IPv6 takes a moment for")
		v4.sync(ctx, local(v4.services, v4.node))
		v6.sync(ctx, local(v6.services, v6.node))
		v4.sync(ctx)
		Expect(v4.ours()).To(BeEmpty())
		Expect(v6.ours()).To(HaveLen(1))
	})

	It("ends when its context does", func(ctx context.Context) {
		plans["IPv4"].enterNode()
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := routes.Sync(ctx, false, nil)
		Expect(err).To(MatchError(context.Canceled))
	})
})

func ipNet(text string) *net.IPNet {
	GinkgoHelper()
	_, network, err := net.ParseCIDR(fmt.Sprint(prefix(text)))
	Expect(err).NotTo(HaveOccurred())
	return network
}
