package ipvs_test

import (
	"context"
	"net/netip"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

var _ = Describe("What somebody else changes", func() {
	web := virtualserver.At(netip.MustParseAddrPort("172.30.0.41:80"), forwarding.TCP)
	change := func(ctx context.Context, fill func(b *virtualserver.Batch)) {
		GinkgoHelper()
		kernel, err := virtualserver.Open()
		Expect(err).NotTo(HaveOccurred())
		defer func() { Expect(kernel.Close()).To(Succeed()) }()
		var b virtualserver.Batch
		fill(&b)
		Expect(kernel.Do(ctx, b)).To(BeEmpty())
	}
	backend := virtualserver.RealServer{Addr: netip.MustParseAddrPort("10.180.0.1:80"), Weight: 1}
	damages := []struct {
		name string
		do   func(ctx context.Context)
		// different is what is named then.
		different string
	}{
		{"a virtual server deleted", func(ctx context.Context) {
			change(ctx, func(b *virtualserver.Batch) { b.DeleteServer(web) })
		}, "virtual server tcp 172.30.0.41:80"},
		{"a virtual server of IPv6 deleted", func(ctx context.Context) {
			change(ctx, func(b *virtualserver.Batch) { b.DeleteServer(virtualserver.Marked(firstMark(ctx, true), true)) })
		}, "virtual server IPv6 mark"},
		{"another scheduler", func(ctx context.Context) {
			change(ctx, func(b *virtualserver.Batch) { b.SetServer(virtualserver.New(web, "sh", 0)) })
		}, "virtual server tcp 172.30.0.41:80"},
		{"a real server deleted", func(ctx context.Context) {
			change(ctx, func(b *virtualserver.Batch) { b.DeleteReal(web, backend) })
		}, "virtual server tcp 172.30.0.41:80"},
		{"a real server added", func(ctx context.Context) {
			change(ctx, func(b *virtualserver.Batch) {
				b.AddReal(web, virtualserver.RealServer{Addr: netip.MustParseAddrPort("10.180.9.9:80"), Weight: 1})
			})
		}, "virtual server tcp 172.30.0.41:80"},
		{"a weight changed", func(ctx context.Context) {
			change(ctx, func(b *virtualserver.Batch) {
				b.SetReal(web, virtualserver.RealServer{Addr: backend.Addr, Weight: 7})
			})
		}, "virtual server tcp 172.30.0.41:80"},
		{"a set emptied", func(context.Context) { run("ipset", "flush", "SPROXYVS-4-POD") }, "set SPROXYVS-4-POD"},
		{"an entry added", func(context.Context) { run("ipset", "add", "SPROXYVS-6-ROUTED", "2001:db8::99") }, "set SPROXYVS-6-ROUTED"},
		{"a route gone", func(context.Context) { run("ip", "route", "del", "local", "172.30.0.0/16", "dev", "lo") }, "route local 172.30.0.0/16"},
		{"the routes of an interface gone", func(context.Context) {
			run("ip", "link", "set", "lo", "down")
			run("ip", "link", "set", "lo", "up")
			run("ip", "address", "add", "2001:db8::2/128", "dev", "lo", "nodad")
		}, "route local 2001:db8::"},
		{"a chain emptied", func(context.Context) { run("iptables-legacy", "-t", "mangle", "-F", "SPROXYVS-POD") }, "chain SPROXYVS-POD in table mangle of IPv4"},
	}
	It("is noticed at little cost, named and put right", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, append(n.update("web 172.30.0.41 80^3001 vip=1.2.3.4 eTP=Local ranges=203.0.113.0/24 -> 10.180.0.1/local 10.180.1.1"),
			n.update("other 172.30.0.42 80 affinity=100 -> 10.180.0.1")...))
		want := held(ctx)
		Expect(e.Changed(ctx)).To(BeFalse())
		Expect(e.Compare(ctx)).To(BeEmpty())
		for _, d := range damages {
			By(d.name)
			d.do(ctx)
			Expect(e.Changed(ctx)).To(BeTrue())
			Expect(e.Compare(ctx)).To(ContainElement(HavePrefix(d.different)))
			w, err := e.Verify(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(w.Changes()).NotTo(BeZero())
			_, _, err = e.Drain(ctx) // of a real server that was too much
			Expect(err).NotTo(HaveOccurred())
			Expect(e.Compare(ctx)).To(BeEmpty())
			Expect(e.Changed(ctx)).To(BeFalse())
		}
		Expect(held(ctx)).To(Equal(want))
	})

	It("is left alone where it is of others", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, n.update("web 172.30.0.41 80 -> 10.180.0.1/local 10.180.1.1"))
		change(ctx, func(b *virtualserver.Batch) {
			b.AddServer(virtualserver.Server{Key: virtualserver.At(netip.MustParseAddrPort("192.168.0.2:53"), forwarding.UDP), Scheduler: "rr"})
		})
		run("ipset", "create", "FOREIGN", "hash:ip")
		run("ip", "route", "add", "local", "172.29.0.0/16", "dev", "lo")
		Expect(e.Changed(ctx)).To(BeFalse())
		Expect(e.Compare(ctx)).To(BeEmpty())
	})
})

// firstMark is the mark of some virtual server of a family.
func firstMark(ctx context.Context, ipv6 bool) uint32 {
	GinkgoHelper()
	kernel, err := virtualserver.Open()
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(kernel.Close()).To(Succeed()) }()
	states, err := kernel.List(ctx)
	Expect(err).NotTo(HaveOccurred())
	for _, s := range states {
		if s.Mark != 0 && s.IPv6 == ipv6 {
			return s.Mark
		}
	}
	Fail("there is no virtual server by mark")
	return 0
}
