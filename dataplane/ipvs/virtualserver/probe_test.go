package virtualserver_test

import (
	"context"
	"net/netip"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

var _ = Describe("Probe", func() {
	for _, scheduler := range schedulers {
		It("finds scheduler "+scheduler+", and leaves nothing behind", func(ctx context.Context) {
			enterNamespace()
			Expect(virtualserver.Probe(ctx, scheduler)).To(Succeed())
			Expect(open().List(ctx)).To(BeEmpty())
		})
	}

	It("names the module of a scheduler that is missing, and what to do", func(ctx context.Context) {
		enterNamespace()
		err := virtualserver.Probe(ctx, "nonsense")
		var missing *virtualserver.MissingModuleError
		Expect(err).To(BeAssignableToTypeOf(missing))
		Expect(err).To(MatchError(And(
			ContainSubstring("no module ip_vs_nonsense"),
			ContainSubstring("modprobe ip_vs_nonsense"),
		)))
		Expect(open().List(ctx)).To(BeEmpty())
	})

	It("says the same beside virtual servers, and leaves them alone", func(ctx context.Context) {
		enterNamespace()
		servers := open()
		var add virtualserver.Batch
		add.AddServer(virtualserver.New(tcp("10.0.0.1:80"), "wlc", 60))
		foreign := virtualserver.New(tcp("10.0.0.2:80"), "wlc", 60)
		foreign.Flags &^= virtualserver.FlagOurs
		add.AddServer(foreign)
		do(ctx, servers, add)
		before, err := servers.List(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(before).To(HaveLen(2))

		Expect(virtualserver.Probe(ctx, "rr")).To(Succeed())
		Expect(virtualserver.Probe(ctx, "nonsense")).NotTo(Succeed())
		Expect(servers.List(ctx)).To(ConsistOf(before))
	})

	It("is not misled by what an earlier one left behind when it was killed", func(ctx context.Context) {
		enterNamespace()
		servers := open()
		var add virtualserver.Batch
		left := virtualserver.At(netip.MustParseAddrPort("192.0.2.1:1"), forwarding.TCP)
		add.AddServer(virtualserver.New(left, "rr", 0))
		do(ctx, servers, add)
		Expect(virtualserver.Probe(ctx, "nonsense")).NotTo(Succeed())
		Expect(servers.List(ctx)).To(BeEmpty())

		do(ctx, servers, add)
		Expect(virtualserver.Probe(ctx, "wlc")).To(Succeed())
		Expect(servers.List(ctx)).To(BeEmpty())
	})
})
