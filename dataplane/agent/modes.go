package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// engine makes the kernel carry out a forwarding table in one mode. It reads and writes nothing before its first Apply.
type engine interface {
	// configure takes over the settings and addresses of a plan; they take effect with the next Apply.
	configure(p *settings.Plan)
	OpenHealthPorts(ports []uint16)
	Apply(ctx context.Context, changes []forwarding.Change) (effect, error)
	// Verify compares everything with the kernel and puts right what differs; some chains alone, where that is enough and
	// the engine can.
	Verify(ctx context.Context, only ...xtables.Place) (effect, error)
	// Compare names what the kernel does not hold as it was written, and writes nothing.
	Compare(ctx context.Context, only ...xtables.Place) ([]string, error)
	// Changed says whether somebody else may have changed something of which the kernel gives no notice. It costs little.
	Changed(ctx context.Context) (bool, error)
	// Holding reads back what a connection to a destination meets in the kernel.
	Holding(ctx context.Context, to netip.AddrPort, protocol forwarding.Protocol) (xtables.Holding, error)
	Rules() int
	problems() []catalog.Problem
	// drain removes what had to wait for connections to end. It returns when to look again; zero for never.
	drain(ctx context.Context) (time.Duration, error)
	// leave removes the engine's state from the kernel, now that another carries out the table. What has to wait until
	// connections have ended is left to the retirement; nil when there is nothing.
	leave(ctx context.Context) (*ipvs.Retirement, error)
}

// effect is what an engine has done to the kernel.
type effect struct {
	// changes counts chains, jumps, virtual and real servers, set entries and routes that were written or removed.
	changes int
	// chains is how many of them were chains, and bytes what was given to iptables-restore for them.
	chains, bytes int
	// messages counts netlink messages.
	messages int
}

func (e *effect) add(f effect) {
	e.changes += f.changes
	e.chains += f.chains
	e.bytes += f.bytes
	e.messages += f.messages
}

func effectOf(w xtables.Written) effect {
	return effect{changes: w.Chains + w.Jumps, chains: w.Chains, bytes: w.Bytes}
}

type iptablesEngine struct{ *iptables.Engine }

func (e iptablesEngine) configure(p *settings.Plan)                   { e.Configure(p.IPTables) }
func (e iptablesEngine) problems() []catalog.Problem                  { return nil }
func (e iptablesEngine) drain(context.Context) (time.Duration, error) { return 0, nil }

func (e iptablesEngine) Apply(ctx context.Context, changes []forwarding.Change) (effect, error) {
	w, err := e.Engine.Apply(ctx, changes)
	return effectOf(w), err
}

func (e iptablesEngine) Verify(ctx context.Context, only ...xtables.Place) (effect, error) {
	w, err := e.Engine.Verify(ctx, only...)
	return effectOf(w), err
}

func (e iptablesEngine) leave(ctx context.Context) (*ipvs.Retirement, error) {
	return nil, e.Remove(ctx)
}

type ipvsEngine struct {
	*ipvs.Engine
	tools        *xtables.Tools
	clock        clock.Clock
	drainTimeout time.Duration
	sent         uint64
}

func (e *ipvsEngine) configure(p *settings.Plan) {
	e.Configure(p.IPVS)
	e.drainTimeout = p.DrainTimeout
	e.SetAddresses(p.Addresses)
}

func (e *ipvsEngine) Apply(ctx context.Context, changes []forwarding.Change) (effect, error) {
	w, err := e.Engine.Apply(ctx, changes)
	return e.effectOf(w), err
}

// Verify compares everything, as there are few rules in any case.
func (e *ipvsEngine) Verify(ctx context.Context, _ ...xtables.Place) (effect, error) {
	w, err := e.Engine.Verify(ctx)
	return e.effectOf(w), err
}

func (e *ipvsEngine) Compare(ctx context.Context, _ ...xtables.Place) ([]string, error) {
	return e.Engine.Compare(ctx)
}

func (e *ipvsEngine) effectOf(w ipvs.Written) effect {
	all := effectOf(w.Rules)
	all.changes = w.Changes()
	sent := e.Messages()
	all.messages, e.sent = int(sent-e.sent), sent
	return all
}

func (e *ipvsEngine) drain(ctx context.Context) (time.Duration, error) {
	_, again, err := e.Drain(ctx)
	return again, err
}

func (e *ipvsEngine) problems() []catalog.Problem {
	var problems []catalog.Problem
	for _, p := range e.Problems() {
		problems = append(problems, catalog.ServiceProblem(p.Port.Service, "spec", p.Message))
	}
	return problems
}

func (e *ipvsEngine) leave(ctx context.Context) (*ipvs.Retirement, error) {
	retirement, err := ipvs.Retire(ctx, e.tools, e.clock, e.drainTimeout)
	if err != nil {
		return nil, err
	}
	return retirement, e.Close()
}

// open makes the engine that a plan asks for. The kernel is not touched.
func (l *loop) open(p *settings.Plan) (engine, error) {
	if p.Mode == v1alpha1.ModeIPVS {
		if l.retirement != nil {
			// The engine takes up what was being left.
			if err := l.retirement.Close(); err != nil {
				return nil, fmt.Errorf("taking mode %s up again: %w", p.Mode, err)
			}
			l.retirement, l.state.draining = nil, 0
		}
		e, err := ipvs.New(l.tools, p.IPVS, l.clock)
		if err != nil {
			return nil, fmt.Errorf("starting mode %s: %w", p.Mode, err)
		}
		return l.quietly(&ipvsEngine{Engine: e, tools: l.tools, clock: l.clock, drainTimeout: p.DrainTimeout}), nil
	}
	return l.quietly(iptablesEngine{iptables.New(l.tools, p.IPTables)}), nil
}

// supports says why this node cannot carry out a plan; nil when it can.
func (l *loop) supports(ctx context.Context, p *settings.Plan) *refusal {
	if p.Mode != v1alpha1.ModeIPVS {
		return nil
	}
	if err := ipvs.Probe(ctx, l.tools, p.IPVS.Scheduler); err != nil {
		if _, missing := errors.AsType[*virtualserver.MissingModuleError](err); missing {
			return &refusal{v1alpha1.ReasonKernelModuleMissing, err.Error()}
		}
		return &refusal{v1alpha1.ReasonBackendUnavailable, err.Error()}
	}
	return nil
}

// ownAddresses are the addresses of the node, for modes that need to know them.
func (l *loop) ownAddresses(p *settings.Plan) ([]netip.Addr, error) {
	if p.Mode != v1alpha1.ModeIPVS {
		return nil, nil
	}
	own, err := addresses.List()
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of the node: %w", err)
	}
	return own, nil
}
