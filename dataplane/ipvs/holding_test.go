package ipvs_test

import (
	"context"
	"net/netip"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

var _ = Describe("What the kernel holds for an address", func() {
	backend := func(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
	It("is told in the words of ipvsadm and ipset, and what is different of it", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, append(n.update("web 172.30.0.41 80 vip=1.2.3.4 eTP=Local -> 10.180.0.1/local 10.180.1.1"),
			n.update("other 172.30.0.42 80 affinity=100 -> 10.180.0.2")...))

		By("reading a cluster IP back")
		web := backend("172.30.0.41:80")
		h, err := e.Holding(ctx, web, forwarding.TCP)
		Expect(err).NotTo(HaveOccurred())
		Expect(h.Differences).To(BeEmpty())
		Expect(h.Backends).To(Equal([]netip.AddrPort{backend("10.180.0.1:80"), backend("10.180.1.1:80")}))
		Expect(h.Lines).To(ContainElements(
			"add SPROXYVS-4-POD 172.30.0.41,tcp:80", "add SPROXYVS-4-REMOTE 172.30.0.41,tcp:80 skbmark 0x4000/0x4000",
			"-A -t 172.30.0.41:80 -s rr -b flag-3", "-a -t 172.30.0.41:80 -r 10.180.0.1:80 -m -w 1", "-a -t 172.30.0.41:80 -r 10.180.1.1:80 -m -w 1"))

		By("following the marks of a load balancer IP")
		h, err = e.Holding(ctx, backend("1.2.3.4:80"), forwarding.TCP)
		Expect(err).NotTo(HaveOccurred())
		Expect(h.Differences).To(BeEmpty())
		Expect(h.Backends).To(ConsistOf(backend("10.180.0.1:80"), backend("10.180.1.1:80")))
		Expect(h.Lines).To(ContainElements("add SPROXYVS-4-ROUTED 1.2.3.4", MatchRegexp(`^-a -f \d+ -r 10.180.1.1:80 -m -w 1$`)))

		By("telling of affinity")
		h, err = e.Holding(ctx, backend("172.30.0.42:80"), forwarding.TCP)
		Expect(err).NotTo(HaveOccurred())
		Expect(h.Lines).To(ContainElement("-A -t 172.30.0.42:80 -s rr -p 100 -b flag-3"))

		By("changing the virtual server and an entry of the one, and nothing of the other")
		kernel, err := virtualserver.Open()
		Expect(err).NotTo(HaveOccurred())
		defer func() { Expect(kernel.Close()).To(Succeed()) }()
		var b virtualserver.Batch
		b.DeleteReal(virtualserver.At(web, forwarding.TCP), virtualserver.RealServer{Addr: backend("10.180.1.1:80")})
		Expect(kernel.Do(ctx, b)).To(BeEmpty())
		run("ipset", "del", "SPROXYVS-4-POD", "172.30.0.41,tcp:80")
		h, err = e.Holding(ctx, web, forwarding.TCP)
		Expect(err).NotTo(HaveOccurred())
		Expect(h.Differences).To(ConsistOf("virtual server tcp 172.30.0.41:80", "entry 172.30.0.41,tcp:80 of set SPROXYVS-4-POD"))
		Expect(h.Backends).To(Equal([]netip.AddrPort{backend("10.180.0.1:80")}))
		h, err = e.Holding(ctx, backend("172.30.0.42:80"), forwarding.TCP)
		Expect(err).NotTo(HaveOccurred())
		Expect(h.Differences).To(BeEmpty())
	})

	It("is nothing where there is no Service", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, n.update("web 172.30.0.41 80 -> 10.180.0.1"))
		h, err := e.Holding(ctx, backend("172.30.0.41:81"), forwarding.TCP)
		Expect(err).NotTo(HaveOccurred())
		Expect(h.Lines).To(BeEmpty())
		Expect(h.Differences).To(BeEmpty())
	})
})
