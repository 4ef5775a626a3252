package ipvs_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
	"github.com/serviceproxy/service-proxy-operator/test/kernel"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestMain(m *testing.M) { os.Exit(kernel.Main(m)) }

func TestIPVS(t *testing.T) {
	specs.Run(t, "ipvs")
}

// node is a network namespace with addresses, in which engines work.
type node struct {
	tools    *xtables.Tools
	settings ipvs.Settings
	clock    *clocktesting.FakeClock
	table    *forwarding.Table
}

// newNode puts the spec into a network namespace of its own.
func newNode(ctx context.Context) *node {
	GinkgoHelper()
	runtime.LockOSThread()
	home, err := netns.Get()
	Expect(err).NotTo(HaveOccurred())
	there, err := netns.New()
	Expect(err).NotTo(HaveOccurred(), "making a network namespace needs root")
	DeferCleanup(func() {
		Expect(netns.Set(home)).To(Succeed())
		Expect(there.Close()).To(Succeed())
		Expect(home.Close()).To(Succeed())
		runtime.UnlockOSThread()
	})
	run("ip", "link", "set", "lo", "up")
	run("ip", "address", "add", "192.168.0.2/32", "dev", "lo")
	run("ip", "address", "add", "2001:db8::2/128", "dev", "lo", "nodad")
	tools, err := xtables.Probe(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(ipvs.Probe(ctx, tools, "rr")).To(Succeed())
	defaults := scenario.Defaults()
	return &node{
		tools: tools, clock: clocktesting.NewFakeClock(time.Now()), table: forwarding.NewTable(),
		settings: ipvs.Settings{
			MarkBit: 14, Pods: xtables.Pods{CIDRs: defaults.PodCIDRs}, ServiceCIDRs: defaults.ServiceCIDRs, Scheduler: "rr",
			NodeAddresses: []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("2001:db8::2")}, DrainTimeout: time.Hour,
		},
	}
}

// start is an engine that has not written anything yet.
func (n *node) start() *ipvs.Engine {
	GinkgoHelper()
	e, err := ipvs.New(n.tools, n.settings, n.clock)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(e.Close)
	own, err := addresses.List()
	Expect(err).NotTo(HaveOccurred())
	e.SetAddresses(own)
	return e
}

// update is what a Service, as package scenario reads it, changes in the forwarding table.
func (n *node) update(service string) []forwarding.Change {
	GinkgoHelper()
	s, err := scenario.ParseService(service)
	Expect(err).NotTo(HaveOccurred())
	settings := scenario.Defaults()
	ports, problems := forwarding.Compute(&s.Service, s.Slices, settings.Node())
	Expect(problems).To(BeEmpty())
	return n.table.Update(s.Name, s.Created, ports)
}

// remove is what changes when a Service goes.
func (n *node) remove(service string) []forwarding.Change {
	GinkgoHelper()
	s, err := scenario.ParseService(service)
	Expect(err).NotTo(HaveOccurred())
	return n.table.Update(s.Name, s.Created, nil)
}

func (n *node) everything() []forwarding.Change {
	var changes []forwarding.Change
	for p := range n.table.All {
		changes = append(changes, forwarding.Change{New: p})
	}
	return changes
}

func apply(ctx context.Context, e *ipvs.Engine, changes []forwarding.Change) ipvs.Written {
	GinkgoHelper()
	w, err := e.Apply(ctx, changes)
	Expect(err).NotTo(HaveOccurred())
	return w
}

// servers is every virtual server there is, with its real servers and their weights, those of marks without the mark.
func servers(ctx context.Context) []string {
	GinkgoHelper()
	k, err := virtualserver.Open()
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(k.Close()).To(Succeed()) }()
	states, err := k.List(ctx)
	Expect(err).NotTo(HaveOccurred())
	var lines []string
	for _, s := range states {
		line := s.Key.String()
		if s.Mark != 0 {
			line, _, _ = strings.Cut(line, " 0x")
		}
		var backends []string
		for _, r := range s.Real {
			backends = append(backends, fmt.Sprintf("%s*%d", r.Addr, r.Weight))
		}
		slices.Sort(backends)
		lines = append(lines, strings.Join(append([]string{line + " " + s.Scheduler}, backends...), " "))
	}
	slices.Sort(lines)
	return lines
}

// serversOfIPv4 leaves out the twins.
func serversOfIPv4(ctx context.Context) []string {
	return slices.DeleteFunc(servers(ctx), func(line string) bool { return strings.Contains(line, "[") || strings.Contains(line, "IPv6") })
}

func run(name string, args ...string) string {
	GinkgoHelper()
	out, err := exec.Command(name, args...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s %v: %s", name, args, out)
	return string(out)
}

// held is everything that the kernel of the node holds, of whoever.
func held(ctx context.Context) string {
	GinkgoHelper()
	var all []string
	for _, table := range []string{"nat", "mangle", "filter"} {
		for _, save := range []string{"iptables-legacy-save", "ip6tables-legacy-save"} {
			for line := range strings.Lines(run(save, "-t", table)) {
				if line[0] == ':' || strings.HasPrefix(line, "-A") {
					chain, _, _ := strings.Cut(line, " [")
					all = append(all, table+" "+strings.TrimSpace(chain))
				}
			}
		}
	}
	all = append(all, servers(ctx)...)
	for line := range strings.SplitSeq(run("ipset", "list", "-output", "save"), "\n") {
		if strings.HasPrefix(line, "add ") {
			all = append(all, line)
		}
		if name, ok := strings.CutPrefix(line, "create "); ok {
			all = append(all, strings.Fields(name)[0])
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: 255}, netlink.RT_FILTER_TABLE)
		Expect(err).NotTo(HaveOccurred())
		for _, r := range routes {
			all = append(all, fmt.Sprintf("route %d %s src %s", r.Type, r.Dst, r.Src))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
