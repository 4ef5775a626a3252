package conntrack_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
)

// Real packets: a client that keeps its socket, as a DNS resolver or a game does, and rules that move its Service.
var _ = Describe("a client that keeps sending from one socket", func() {
	for family, p := range plans {
		iptables, everywhere := "iptables", "0.0.0.0/0"
		if family == "IPv6" {
			iptables, everywhere = "ip6tables", "::/0"
		}
		svc := p.service()
		frontend := at(p.clusterIP, port)

		translate := func(action, endpoint string) {
			GinkgoHelper()
			command(iptables, "-w", "-t", "nat", action, "OUTPUT", "-d", p.clusterIP, "-p", "udp", "--dport", "8000",
				"-j", "DNAT", "--to-destination", at(endpoint, targetPort))
		}

		It("is led to another endpoint when its own is gone, "+family, func(ctx context.Context) {
			Expect(enterNamespace(netip.MustParseAddr(p.serving), netip.MustParseAddr(p.gone))).To(Succeed())
			routeAway(everywhere)
			serving, gone := listen(at(p.serving, targetPort)), listen(at(p.gone, targetPort))
			client := dial(frontend)

			proxy := newProxy()
			proxy.update(svc.Name, svc, slice(endpoint(p.gone)))
			Expect(proxy.flush(ctx)).To(BeZero())
			translate("-A", p.gone)
			Expect(answered(client, gone, serving)).To(Equal(at(p.gone, targetPort)))

			proxy.update(svc.Name, svc, slice(endpoint(p.serving)))
			translate("-A", p.serving)
			translate("-D", p.gone)
			Expect(answered(client, gone, serving)).To(Equal(at(p.gone, targetPort)), "rules alone move no flow")
			Expect(proxy.flush(ctx)).To(Equal(1))
			Expect(answered(client, gone, serving)).To(Equal(at(p.serving, targetPort)))
		})

		It("is led to the first endpoint there is, "+family, func(ctx context.Context) {
			Expect(enterNamespace(netip.MustParseAddr(p.serving))).To(Succeed())
			routeAway(everywhere)
			serving := listen(at(p.serving, targetPort))
			client := dial(frontend)
			track(iptables)

			proxy := newProxy()
			proxy.update(svc.Name, svc)
			Expect(proxy.flush(ctx)).To(BeZero())
			Expect(answered(client, serving)).To(BeEmpty(), "there is no rule")
			Expect(flows()).To(ConsistOf(udp(frontend, frontend)))

			proxy.update(svc.Name, svc, slice(endpoint(p.serving)))
			translate("-A", p.serving)
			Expect(answered(client, serving)).To(BeEmpty(), "rules alone translate no flow that is not")
			Expect(proxy.flush(ctx)).To(Equal(1))
			Expect(answered(client, serving)).To(Equal(at(p.serving, targetPort)))
		})

		It("keeps what somebody tracks in a zone, unless it was translated there, "+family, func(ctx context.Context) {
			Expect(enterNamespace(netip.MustParseAddr(p.gone))).To(Succeed())
			routeAway(everywhere)
			gone := listen(at(p.gone, targetPort))
			track(iptables)
			command(iptables, "-w", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "-j", "CT", "--zone", "5")
			command(iptables, "-w", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "CT", "--zone", "5")
			proxy := newProxy(p.serviceCIDR)
			proxy.update(svc.Name, svc, slice(endpoint(p.gone)))
			Expect(proxy.flush(ctx)).To(BeZero())

			Expect(answered(dial(frontend), gone)).To(BeEmpty(), "there is no rule")
			translate("-A", p.gone)
			Expect(answered(dial(frontend), gone)).To(Equal(at(p.gone, targetPort)))
			untranslated, translated := udp(frontend, frontend), udp(frontend, at(p.gone, targetPort))
			Expect(flows()).To(ConsistOf(untranslated, translated))

			proxy.update(svc.Name, nil)
			Expect(proxy.flush(ctx)).To(Equal(1))
			Expect(flows()).To(ConsistOf(untranslated))
		})
	}
})

// track gives connection tracking a user, without which the kernel does not bother.
func track(iptables string) {
	GinkgoHelper()
	command(iptables, "-w", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
}

// routeAway routes every address to an interface behind which nobody is, so that packets to a Service find their way to
// the rules of OUTPUT, and nowhere if there is none.
func routeAway(everywhere string) {
	GinkgoHelper()
	away := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "away"}, PeerName: "nobody"}
	Expect(netlink.LinkAdd(away)).To(Succeed())
	nobody, err := netlink.LinkByName(away.PeerName)
	Expect(err).NotTo(HaveOccurred())
	Expect(netlink.LinkSetUp(nobody)).To(Succeed())
	Expect(netlink.LinkSetARPOff(away)).To(Succeed(), "so that packets leave without asking who is there")
	Expect(netlink.LinkSetUp(away)).To(Succeed())
	dst, err := netlink.ParseIPNet(everywhere)
	Expect(err).NotTo(HaveOccurred())
	Expect(netlink.RouteAdd(&netlink.Route{LinkIndex: away.Attrs().Index, Dst: dst})).To(Succeed())
}

func listen(address string) *net.UDPConn {
	GinkgoHelper()
	server, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(server.Close)
	return server
}

func dial(address string) *net.UDPConn {
	GinkgoHelper()
	client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(client.Close)
	return client
}

// answered sends a packet and returns which server it came to; none where none gets it within a moment. Over the
// loopback interface a packet has arrived when it is sent.
func answered(client *net.UDPConn, servers ...*net.UDPConn) string {
	GinkgoHelper()
	_, err := client.Write([]byte("hello"))
	Expect(err).NotTo(HaveOccurred())
	for _, server := range servers {
		Expect(server.SetReadDeadline(time.Now().Add(500 * time.Millisecond))).To(Succeed())
		_, from, err := server.ReadFromUDPAddrPort(make([]byte, 16))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		Expect(err).NotTo(HaveOccurred())
		_, err = server.WriteToUDPAddrPort([]byte("hello yourself"), from)
		Expect(err).NotTo(HaveOccurred())
		Expect(client.SetReadDeadline(time.Now().Add(time.Minute))).To(Succeed())
		_, err = client.Read(make([]byte, 16))
		Expect(err).NotTo(HaveOccurred())
		return server.LocalAddr().String()
	}
	return ""
}
