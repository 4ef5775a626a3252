package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
	"github.com/serviceproxy/service-proxy-operator/test/kernel"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// TestMain tries every mode: those of iptables on the kernel of this machine, and IPVS there too if it has it, and
// else on one that does.
func TestMain(m *testing.M) {
	status := m.Run()
	if status == 0 && !kernel.HasIPVS() {
		var err error
		if status, err = kernel.Again(context.Background(), kernel.Program{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	os.Exit(status)
}

func TestKernel(t *testing.T) {
	specs.Run(t, "conformance")
}

// engine makes the kernel of the namespace that it is called in carry out a forwarding table.
type engine interface {
	Apply(ctx context.Context, changes []forwarding.Change) error
	Holding(ctx context.Context, to netip.AddrPort, protocol forwarding.Protocol) (xtables.Holding, error)
}

// mode is a way to carry out forwarding tables.
type mode struct {
	name string
	// imposes is what a packet comes to where the kernel does not let the mode do what the forwarding table says; see
	// docs/behaviour.md.
	imposes func(c *scenario.Case, p *scenario.Packet) (scenario.Outcome, bool)
	// open chooses the mode in a new namespace, and returns what starts engines in it. When one starts, others may have
	// been there before, with other settings.
	open func(ctx context.Context) (func(scenario.Settings) engine, error)
}

func modes() []mode {
	var all []mode
	// A kernel that has been started for IPVS has no nf_tables for iptables, and then has done its part with IPVS.
	if exec.Command("iptables-nft", "-t", "nat", "-L").Run() == nil || !kernel.HasIPVS() {
		all = append(all, iptablesMode(xtables.NFT), iptablesMode(xtables.Legacy))
	}
	if kernel.HasIPVS() {
		all = append(all, ipvsMode())
	}
	return all
}

func iptablesMode(backend xtables.Backend) mode {
	return mode{name: "iptables " + string(backend), open: func(ctx context.Context) (func(scenario.Settings) engine, error) {
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
	}}
}

func ipvsMode() mode {
	return mode{name: "IPVS", imposes: imposedByIPVS, open: func(ctx context.Context) (func(scenario.Settings) engine, error) {
		tools, err := xtables.Probe(ctx)
		if err != nil {
			return nil, err
		}
		if err := ipvs.Probe(ctx, tools, "rr"); err != nil {
			return nil, err
		}
		release, err := virtualserver.Release()
		if err != nil {
			return nil, err
		}
		if _, err := conntrack.Apply("/", virtualserver.Writes(release, false)); err != nil {
			return nil, err
		}
		return func(s scenario.Settings) engine {
			return &ipvsEngine{tools: tools, settings: ipvs.Settings{
				MarkBit: 14, Pods: xtables.Pods{CIDRs: s.PodCIDRs}, ServiceCIDRs: s.ServiceCIDRs, NodePortAddresses: s.NodePortAddresses,
				NodeAddresses: []netip.Addr{scenario.NodeAddress, scenario.Twin(scenario.NodeAddress)}, Scheduler: "rr",
				// A session lasts as long as flows of the client are remembered.
				UDPTimeout: time.Second,
			}}
		}, nil
	}}
}

// imposedByIPVS knows one thing: IPVS looks at packets only where they are for the node itself, so the address of a Service
// belongs to it with all its ports.
func imposedByIPVS(c *scenario.Case, p *scenario.Packet) (scenario.Outcome, bool) {
	if p.Want.Verdict != scenario.Untouched {
		return p.Want, false
	}
	table, _ := c.Table()
	for sp := range table.All {
		for i := range sp.Frontends {
			if f := &sp.Frontends[i]; f.Key.Addr == p.Destination.Addr() && f.Otherwise != forwarding.Ignore && !slices.Contains(nodeAddresses(), f.Key.Addr) {
				return scenario.Outcome{Verdict: scenario.Rejected}, true
			}
		}
	}
	return p.Want, false
}

type iptablesEngine struct{ *iptables.Engine }

func (e iptablesEngine) Apply(ctx context.Context, changes []forwarding.Change) error {
	_, err := e.Engine.Apply(ctx, changes)
	return err
}

// ipvsEngine opens its sockets when it is first used, in the namespace that it is to work in.
type ipvsEngine struct {
	tools    *xtables.Tools
	settings ipvs.Settings
	engine   *ipvs.Engine
}

func (e *ipvsEngine) Holding(ctx context.Context, to netip.AddrPort, protocol forwarding.Protocol) (xtables.Holding, error) {
	return e.engine.Holding(ctx, to, protocol)
}

func (e *ipvsEngine) Apply(ctx context.Context, changes []forwarding.Change) (err error) {
	if e.engine == nil {
		if e.engine, err = ipvs.New(e.tools, e.settings, clock.RealClock{}); err != nil {
			return err
		}
		DeferCleanup(e.engine.Close)
	}
	own, err := addresses.List()
	if err != nil {
		return err
	}
	e.engine.SetAddresses(own)
	if _, err = e.engine.Apply(ctx, changes); err != nil {
		return err
	}
	// Connections of earlier cases have no time to end: they would keep their virtual servers.
	_, _, err = e.engine.Drain(ctx)
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
					var e engine
					Expect(c.node.do(func() error {
						e = start(example.Settings)
						return e.Apply(ctx, changes)
					})).To(Succeed())
					imposed := m.withImposed(example)
					Expect(c.checkAll(imposed, true)).To(Succeed())
					Expect(m.traces(imposed)).To(Succeed(), "what a trace says is not what became of the packets")
					Expect(c.node.do(func() error { return m.readBack(ctx, e, imposed) })).To(Succeed())
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
					imposed := m.withImposed(random)
					Expect(c.checkAll(imposed, false)).To(Succeed(), "seed %d, round %d", seed, round)
					Expect(m.traces(imposed)).To(Succeed(), "seed %d, round %d", seed, round)
				}
			})
		})
	}
})

// withImposed is a case with what the kernel imposes.
func (m *mode) withImposed(c *scenario.Case) *scenario.Case {
	if m.imposes == nil {
		return c
	}
	imposed := *c
	imposed.Packets = nil
	for _, p := range c.Packets {
		q := *p
		q.Want, _ = m.imposes(c, p)
		imposed.Packets = append(imposed.Packets, &q)
	}
	return &imposed
}

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
