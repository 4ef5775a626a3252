package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Engine makes the kernel match a forwarding table by virtual servers. It is not safe for concurrent use.
type Engine struct {
	kernel   *virtualserver.Kernel
	sets     *ipset.Kernel
	servers  *servers
	families []*family
	settings Settings
	// addresses are the node's own.
	addresses []netip.Addr
	// stale says that what the kernel holds is not known.
	stale bool
	// timeoutsDue says that the timeouts of IPVS are to be set.
	timeoutsDue bool
}

// Written says what a call has done.
type Written struct {
	// Rules is what was written by iptables-restore. It is nothing unless settings change or rules were gone.
	Rules xtables.Written
	// Servers, Entries and Routes are the changes to virtual and real servers, to sets, and to routes.
	Servers, Entries, Routes int
}

// Changes is how much was written, of whatever kind.
func (w Written) Changes() int {
	return w.Rules.Chains + w.Rules.Jumps + w.Servers + w.Entries + w.Routes
}

// Problem is an address of a Service port that has no virtual server, and why.
type Problem struct {
	Port    forwarding.PortID
	Message string
}

// New returns an engine for an empty forwarding table. The kernel is neither read nor written before the first Apply or
// Verify.
func New(t *xtables.Tools, settings Settings, clk clock.Clock) (*Engine, error) {
	kernel, err := virtualserver.Open()
	if err != nil {
		return nil, err
	}
	sets, err := ipset.Open()
	if err != nil {
		return nil, errors.Join(err, kernel.Close())
	}
	e := &Engine{kernel: kernel, sets: sets, servers: newServers(kernel, clk), settings: settings, stale: true, timeoutsDue: true}
	for _, programs := range t.Families {
		e.families = append(e.families, newFamily(programs, &e.settings))
	}
	return e, nil
}

// Close ends the engine. What it wrote stays.
func (e *Engine) Close() error { return errors.Join(e.kernel.Close(), e.sets.Close()) }

// Messages is how many netlink messages about virtual servers and sets the engine has sent to the kernel.
func (e *Engine) Messages() uint64 { return e.kernel.Sent().Messages + e.sets.Sent().Messages }

// Configure changes the settings. It takes effect with the next Apply.
func (e *Engine) Configure(settings Settings) {
	if e.settings.equal(&settings) {
		return
	}
	e.timeoutsDue = true
	e.settings = settings
	e.renderAll()
}

// SetAddresses tells which addresses the node has. It takes effect with the next Apply.
func (e *Engine) SetAddresses(addresses []netip.Addr) {
	if !slices.Equal(e.addresses, addresses) {
		e.addresses = slices.Clone(addresses)
		e.renderAll()
	}
}

func (e *Engine) renderAll() {
	e.servers.retractAll()
	for _, f := range e.families {
		f.renderAll(e.addresses, e.servers)
	}
}

// OpenHealthPorts lets connections in to the given node ports, at which load balancers ask for local endpoints, and to
// no others. It takes effect with the next Apply.
func (e *Engine) OpenHealthPorts(ports []uint16) {
	for _, f := range e.families {
		f.rules.healthPorts = ports
	}
}

// Rules is the number of rules that the kernel holds of ours.
func (e *Engine) Rules() int {
	n := 0
	for _, f := range e.families {
		n += f.ruleCount()
	}
	return n
}

// Problems are the addresses that have no virtual server, in a stable order.
func (e *Engine) Problems() []Problem {
	var all []Problem
	for _, f := range e.families {
		for id, left := range f.left {
			for _, message := range left {
				all = append(all, Problem{id, message})
			}
		}
		for _, route := range f.taken {
			all = append(all, Problem{Message: route.Error()})
		}
	}
	for key := range e.servers.foreign {
		if c, wanted := e.servers.want[key]; wanted {
			all = append(all, Problem{c.port, fmt.Sprintf("somebody else has a virtual server at %s and keeps it; remove it (ipvsadm -D), or list "+
				"its network in spec.ipvs.excludeCIDRs", key)})
		}
	}
	slices.SortFunc(all, compareProblems)
	return all
}

// Apply writes what changed in the forwarding table. After an error the kernel may hold a part of it; the next call
// compares and writes everything.
func (e *Engine) Apply(ctx context.Context, changes []forwarding.Change) (Written, error) {
	for _, f := range e.families {
		f.change(changes, e.servers)
	}
	if e.stale {
		return e.Verify(ctx)
	}
	return e.write(ctx)
}

// Verify compares everything with the kernel and writes what differs.
func (e *Engine) Verify(ctx context.Context) (Written, error) {
	e.stale = true
	if err := e.servers.read(ctx); err != nil {
		return Written{}, err
	}
	var all Written
	for _, f := range e.families {
		w, err := f.verify(ctx, e.sets)
		all.Rules.Add(w)
		if err != nil {
			return all, err
		}
	}
	e.stale = false
	w, err := e.write(ctx)
	w.Rules.Add(all.Rules)
	return w, err
}

// write gives the kernel what differs: what opens a way before the way is shown, and what closes one after it is not shown
// any more.
func (e *Engine) write(ctx context.Context) (w Written, err error) {
	defer func() { e.stale = e.stale || err != nil }()
	if w.Servers, err = e.servers.open(ctx); err != nil {
		return w, err
	}
	for _, f := range e.families {
		written, err := f.write(ctx, e.sets)
		w.Rules.Add(written.Rules)
		w.Entries += written.Entries
		w.Routes += written.Routes
		if err != nil {
			return w, err
		}
	}
	closed, err := e.servers.shut(ctx)
	w.Servers += closed
	if err != nil {
		return w, err
	}
	if e.timeoutsDue {
		if err := e.kernel.SetTimeouts(ctx, e.settings.TCPTimeout, e.settings.TCPFinTimeout, e.settings.UDPTimeout); err != nil {
			return w, err
		}
		e.timeoutsDue = false
	}
	return w, nil
}

// Drain removes real servers that have left and have no connections any more, or had them for as long as they may. It
// returns how many connections are left, and when to look again; zero when nothing is left to drain.
func (e *Engine) Drain(ctx context.Context) (connections int, again time.Duration, err error) {
	return e.servers.drain(ctx, e.settings.DrainTimeout)
}

func compareProblems(a, b Problem) int {
	return slices.Compare([]string{a.Port.Service.Namespace, a.Port.Service.Name, a.Message},
		[]string{b.Port.Service.Namespace, b.Port.Service.Name, b.Message})
}
