package conformance_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// More clients in each family than a list of xt_recent holds by default, even where there is one for each backend, and few
// enough backends that each gets some.
const (
	sessionClients  = 500
	sessionBackends = 4
)

// describeSessions is about session affinity.
func describeSessions(c func() *client, start func(scenario.Settings) engine) {
	apply := func(ctx SpecContext, e engine, changes []forwarding.Change) {
		GinkgoHelper()
		Expect(c().node.do(func() error { return e.Apply(ctx, changes) })).To(Succeed())
	}
	// open starts with a Service whose sessions last some seconds.
	open := func(ctx SpecContext, protocol forwarding.Protocol, seconds int) (*scenario.Service, *forwarding.Table, engine) {
		GinkgoHelper()
		s, err := scenario.ParseService(fmt.Sprintf("svc 172.30.0.41 80/%s affinity=%d -> 10.0.1.1 10.0.1.2 10.0.1.3 10.0.1.4", protocol, seconds))
		Expect(err).NotTo(HaveOccurred())
		example := &scenario.Case{Settings: scenario.Defaults(), Services: []*scenario.Service{s}}
		table, changes := example.Table()
		e := start(example.Settings)
		apply(ctx, e, changes)
		return s, table, e
	}
	sessions := func(protocol forwarding.Protocol, clients int) func() (map[netip.Addr]netip.AddrPort, error) {
		return func() (map[netip.Addr]netip.AddrPort, error) { return c().sessions(protocol, clients) }
	}

	It("of one client go to one backend, however many clients there are", func(ctx SpecContext) {
		open(ctx, forwarding.TCP, 100)
		before, err := c().sessions(forwarding.TCP, sessionClients)
		Expect(err).NotTo(HaveOccurred())
		counts := map[netip.AddrPort]int{}
		for _, backend := range before {
			counts[backend]++
		}
		Expect(counts).To(HaveLen(2*sessionBackends), "clients are spread over the backends, in both families")
		Expect(slices.Max(slices.Collect(maps.Values(counts)))).To(BeNumerically(">", 100))
		Expect(c().sessions(forwarding.TCP, sessionClients)).To(Equal(before))

		By("starting an engine anew")
		open(ctx, forwarding.TCP, 100)
		Expect(c().sessions(forwarding.TCP, sessionClients)).To(Equal(before))
	})

	It("of one client go to one backend as long as it does not pause for longer than the timeout", func(ctx SpecContext) {
		// No multiple of the backends, which one scheduler of IPVS takes in turn.
		const clients, seconds = 21, 4
		open(ctx, forwarding.UDP, seconds) // IPVS remembers a TCP connection that has ended for two minutes, and the client with it
		before, err := c().sessions(forwarding.UDP, clients)
		Expect(err).NotTo(HaveOccurred())
		Consistently(sessions(forwarding.UDP, clients)).WithTimeout((seconds + 2) * time.Second).WithPolling(time.Second).Should(Equal(before))
		Eventually(sessions(forwarding.UDP, clients)).WithTimeout(30*time.Second).WithPolling((seconds+2)*time.Second).ShouldNot(Equal(before), "a session ends")
	})

	It("of one client go to another backend when theirs is gone, and stay there when it is back", func(ctx SpecContext) {
		const clients = 60
		s, table, e := open(ctx, forwarding.TCP, 100)
		before, err := c().sessions(forwarding.TCP, clients)
		Expect(err).NotTo(HaveOccurred())
		settings := scenario.Defaults()
		change := func(endpoints ...*forwarding.Slice) {
			GinkgoHelper()
			ports, problems := forwarding.Compute(&s.Service, endpoints, settings.Node())
			Expect(problems).To(BeEmpty())
			apply(ctx, e, table.Update(s.Name, s.Created, ports))
		}
		lost := netip.MustParseAddr("10.0.1.2")
		gone := []netip.Addr{lost, scenario.Twin(lost)}
		var rest []*forwarding.Slice
		for _, slice := range s.Slices {
			fewer := *slice
			fewer.Endpoints = slices.DeleteFunc(slices.Clone(slice.Endpoints), func(e forwarding.Endpoint) bool { return slices.Contains(gone, e.Addr) })
			rest = append(rest, &fewer)
		}
		change(rest...)
		after, err := c().sessions(forwarding.TCP, clients)
		Expect(err).NotTo(HaveOccurred())
		moved := 0
		for source, backend := range before {
			if !slices.Contains(gone, backend.Addr()) {
				Expect(after[source]).To(Equal(backend), "%s had no reason to move", source)
				continue
			}
			moved++
			Expect(gone).NotTo(ContainElement(after[source].Addr()))
		}
		Expect(moved).To(BeNumerically(">", 0))
		Expect(c().sessions(forwarding.TCP, clients)).To(Equal(after))
		change(s.Slices...)
		Expect(c().sessions(forwarding.TCP, clients)).To(Equal(after))
	})
}

// sessions sends a packet from each of many pods, of both families, to the Service with sessions, and returns where each
// went.
func (c *client) sessions(protocol forwarding.Protocol, clients int) (map[netip.Addr]netip.AddrPort, error) {
	reached := map[netip.Addr]netip.AddrPort{}
	for i := range clients {
		p := &scenario.Packet{
			From: scenario.Pod, Source: netip.AddrFrom4([4]byte{10, 99, byte(i / 250), byte(i % 250)}), Protocol: protocol,
			Destination: netip.MustParseAddrPort("172.30.0.41:80"),
		}
		for _, p := range []*scenario.Packet{p, p.Twin()} {
			a, verdict, err := c.send(p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
			if verdict != scenario.Forwarded {
				return nil, fmt.Errorf("%s: %s", p, verdict)
			}
			reached[p.Source] = a.local
		}
	}
	return reached, nil
}
