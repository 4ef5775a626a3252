package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"sync"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

func TestKernel(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "conformance")
}

// engine makes the kernel of the namespace that it is called in carry out a forwarding table.
type engine interface {
	Apply(ctx context.Context, changes []forwarding.Change) error
}

// mode is a way to carry out forwarding tables.
type mode struct {
	name string
	// open chooses the mode in a new namespace, and returns what starts engines in it. When one starts, others may have
	// been there before, with other settings.
	open func(ctx context.Context) (func(scenario.Settings) engine, error)
}

func modes() []mode {
	var all []mode
	for _, backend := range []xtables.Backend{xtables.NFT, xtables.Legacy} {
		all = append(all, mode{"iptables " + string(backend), func(ctx context.Context) (func(scenario.Settings) engine, error) {
			hint := exec.CommandContext(ctx, fmt.Sprintf("iptables-%s", backend), "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
			if err := hint.Run(); err != nil {
				return nil, err
			}
			tools, err := xtables.Probe(ctx)
			if err != nil {
				return nil, err
			}
			return func(s scenario.Settings) engine {
				return iptablesEngine{iptables.New(tools, iptables.Settings{
					MarkBit: 14, MasqueradeAll: s.MasqueradeAll, PodCIDRs: s.PodCIDRs, ServiceCIDRs: s.ServiceCIDRs,
					NodePortAddresses: s.NodePortAddresses,
				})}
			}, nil
		}})
	}
	return all
}

type iptablesEngine struct{ *iptables.Engine }

func (e iptablesEngine) Apply(ctx context.Context, changes []forwarding.Change) error {
	_, err := e.Engine.Apply(ctx, changes)
	return err
}

var _ = Describe("Packets", func() {
	for _, m := range modes() {
		Describe("in mode "+m.name, Ordered, ContinueOnFailure, func() {
			cases, err := readVectors()
			if err != nil {
				panic(err) // TestTable says it better
			}
			var c *client
			var start func(scenario.Settings) engine
			BeforeAll(func(ctx SpecContext) {
				r, err := newRig(portsOf(cases))
				Expect(err).NotTo(HaveOccurred())
				DeferCleanup(r.close)
				c = &client{rig: r}
				Expect(r.node.do(func() (err error) {
					start, err = m.open(ctx)
					return err
				})).To(Succeed())
			})

			for _, example := range cases {
				It(example.Name, func(ctx SpecContext) {
					_, changes := example.Table()
					Expect(c.node.do(func() error { return start(example.Settings).Apply(ctx, changes) })).To(Succeed())
					Expect(c.checkAll(example, true)).To(Succeed())
				})
			}

			describeSessions(func() *client { return c }, func(s scenario.Settings) engine { return start(s) })

			It("do what the forwarding table says about random Services", func(ctx SpecContext) {
				seed := uint64(GinkgoRandomSeed())
				r := rand.New(rand.NewPCG(seed, 0))
				for round := range 4 {
					random := randomCase(r)
					_, changes := random.Table()
					Expect(c.node.do(func() error { return start(random.Settings).Apply(ctx, changes) })).To(Succeed())
					Expect(c.checkAll(random, false)).To(Succeed(), "seed %d, round %d", seed, round)
				}
			})
		})
	}
})

// checkAll sends the packets of a case, in both families, several at a time.
func (c *client) checkAll(example *scenario.Case, seeAll bool) error {
	var own []string
	for _, p := range example.Packets {
		if text := p.Source.String() + "/32"; p.From == scenario.Node && p.Source != scenario.NodeAddress && !slices.Contains(own, text) {
			own = append(own, text)
		}
	}
	if err := c.node.do(func() error { return assign("lo", own) }); err != nil {
		return err
	}
	queue := make(chan *scenario.Packet)
	var wrong []error
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range 64 {
		workers.Go(func() {
			for p := range queue {
				if err := c.check(p, seeAll); err != nil {
					mu.Lock()
					wrong = append(wrong, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, p := range example.Packets {
		queue <- p
		queue <- p.Twin()
	}
	close(queue)
	workers.Wait()
	wrong = append(wrong, c.node.do(func() error { return unassign("lo", own) }))
	return errors.Join(wrong...)
}

// randomCase has random Services, and packets whose outcome is read off the forwarding table.
func randomCase(r *rand.Rand) *scenario.Case {
	c := &scenario.Case{Settings: scenario.Defaults()}
	c.Settings.MasqueradeAll = r.IntN(4) == 0
	if r.IntN(3) == 0 {
		c.Settings.PodCIDRs = nil
	}
	for i := range 60 {
		s, err := scenario.ParseService(scenario.RandomService(r, i))
		Expect(err).NotTo(HaveOccurred())
		s.Created = int64(i)
		c.Services = append(c.Services, s)
	}
	table, _ := c.Table()
	for range 150 {
		p := scenario.RandomPacket(r, c.Services)
		p.Want = c.Settings.Expect(table, p, nodeAddresses())
		c.Packets = append(c.Packets, p)
	}
	return c
}

// portsOf are the ports on which anybody may be asked.
func portsOf(cases []*scenario.Case) []uint16 {
	ports := map[uint16]bool{9: true, 53: true, 80: true, 443: true, 8080: true, 8081: true, 8082: true}
	for port := range uint16(scenario.RandomNodePorts) {
		ports[scenario.FirstRandomNodePort+port] = true
	}
	for _, c := range cases {
		for _, p := range c.Packets {
			ports[p.Destination.Port()] = true
			for _, b := range p.Want.Backends {
				ports[b.Port()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(ports))
}
