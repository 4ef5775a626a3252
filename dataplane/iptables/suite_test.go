package iptables_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netns"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestIPTables(t *testing.T) {
	specs.Run(t, "iptables")
}

// onBothBackends makes a spec for each backend. It runs in a network namespace of its own, on a thread that stays in
// it, so that every program that it starts is in it too.
func onBothBackends(text string, body func(ctx context.Context, k *kernel)) {
	for _, backend := range []xtables.Backend{xtables.NFT, xtables.Legacy} {
		It(fmt.Sprintf("%s [%s]", text, backend), func(ctx SpecContext) { inNamespace(backend, func(k *kernel) { body(ctx, k) }) })
	}
}

// kernel is a network namespace in which one backend is in use.
type kernel struct{ backend xtables.Backend }

// inNamespace runs body in a new network namespace.
func inNamespace(backend xtables.Backend, body func(k *kernel)) {
	GinkgoHelper()
	runtime.LockOSThread()
	home, err := netns.Get()
	Expect(err).NotTo(HaveOccurred())
	defer func() {
		Expect(netns.Set(home)).To(Succeed())
		Expect(home.Close()).To(Succeed())
		runtime.UnlockOSThread()
	}()
	there, err := netns.New()
	Expect(err).NotTo(HaveOccurred(), "making a network namespace needs root")
	Expect(there.Close()).To(Succeed()) // the thread holds it
	k := &kernel{backend: backend}
	k.run("iptables", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
	body(k)
}

// run runs a program of the backend: iptables, ip6tables, iptables-save and so on.
func (k *kernel) run(program string, args ...string) string {
	GinkgoHelper()
	base, rest, _ := strings.Cut(program, "-")
	name := fmt.Sprintf("%s-%s", base, k.backend)
	if rest != "" {
		name += "-" + rest
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s %v: %s", name, args, out)
	return string(out)
}

// restore replaces a table by what iptables-save printed of it.
func (k *kernel) restore(family, table string) {
	GinkgoHelper()
	cmd := exec.Command(fmt.Sprintf("%s-%s-restore", family, k.backend))
	cmd.Stdin = strings.NewReader(table)
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
}

// dump is what both families hold in tables nat and filter, as iptables-save prints it.
func (k *kernel) dump() string {
	GinkgoHelper()
	var kept []string
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		for _, table := range []string{"nat", "filter"} {
			kept = append(kept, program+" "+table)
			for line := range strings.Lines(k.run(program, "-t", table)) {
				if chain, _, found := strings.Cut(line, " ["); found && strings.HasPrefix(line, ":") {
					line = chain + "\n" // without counters
				}
				if line[0] == ':' || strings.HasPrefix(line, "-A ") {
					kept = append(kept, strings.TrimSpace(line))
				}
			}
		}
	}
	return strings.Join(kept, "\n")
}

func probe(ctx context.Context) *xtables.Tools {
	GinkgoHelper()
	tools, err := xtables.Probe(ctx)
	Expect(err).NotTo(HaveOccurred())
	return tools
}

// world is Services, the forwarding table that follows from them, and settings.
type world struct {
	settings iptables.Settings
	node     *forwarding.Node
	services map[string]*scenario.Service
	table    *forwarding.Table
}

func newWorld(s scenario.Settings) *world {
	return &world{
		settings: settingsOf(s), node: s.Node(),
		services: map[string]*scenario.Service{}, table: forwarding.NewTable(),
	}
}

func settingsOf(s scenario.Settings) iptables.Settings {
	return iptables.Settings{
		MarkBit: 14, MasqueradeAll: s.MasqueradeAll, PodCIDRs: s.PodCIDRs, ServiceCIDRs: s.ServiceCIDRs,
		NodePortAddresses: s.NodePortAddresses,
	}
}

// set reads the line of a Service and returns what it changes.
func (w *world) set(line string) []forwarding.Change {
	GinkgoHelper()
	s, err := scenario.ParseService(line)
	Expect(err).NotTo(HaveOccurred())
	if before := w.services[s.Name.Name]; before != nil {
		s.Created = before.Created
	} else {
		s.Created = int64(len(w.services))
	}
	w.services[s.Name.Name] = s
	ports, _ := forwarding.Compute(&s.Service, s.Slices, w.node)
	return w.table.Update(s.Name, s.Created, ports)
}

func (w *world) delete(name string) []forwarding.Change {
	s := w.services[name]
	if s == nil {
		return nil
	}
	delete(w.services, name)
	return w.table.Update(s.Name, s.Created, nil)
}

// all is the whole table as changes from nothing.
func (w *world) all() []forwarding.Change {
	var changes []forwarding.Change
	for p := range w.table.All {
		changes = append(changes, forwarding.Change{New: p})
	}
	return changes
}

// random makes or deletes a Service.
func (w *world) random(r *rand.Rand) []forwarding.Change {
	number := r.IntN(80)
	if r.IntN(4) == 0 {
		return w.delete(fmt.Sprintf("svc%d", number))
	}
	return w.set(scenario.RandomService(r, number))
}
