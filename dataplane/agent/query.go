package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/trace"
)

// questions are put to the loop, which alone knows the forwarding table and the engines, and are answered between two steps.
type questions chan func(*loop)

// ask has the loop answer, and waits until it has.
func ask[T any](ctx context.Context, q questions, answer func(*loop) (T, error)) (value T, err error) {
	done := make(chan struct{})
	question := func(l *loop) {
		defer close(done)
		if err = ctx.Err(); err == nil {
			value, err = answer(l)
		}
	}
	select {
	case q <- question:
		<-done // the context ends it too
		return value, err
	case <-ctx.Done():
		return value, fmt.Errorf("waiting for the agent, which is busy: %w", ctx.Err())
	}
}

// QuerySocket is where the agent with a state directory answers questions.
func QuerySocket(stateDir string) string { return filepath.Join(stateDir, "agent.sock") }

// serveQueries answers questions until the context ends. Without a socket Services work all the same.
func serveQueries(ctx context.Context, socket string, q questions, nodeName string, clk clock.Clock) {
	handler := query.Handler(&witness{questions: q, node: nodeName})
	for ctx.Err() == nil {
		listener, err := query.Listen(socket)
		if err == nil {
			server := &http.Server{Handler: handler, ReadHeaderTimeout: listenRetry}
			stop := context.AfterFunc(ctx, func() { _ = server.Close() })
			err = server.Serve(listener)
			stop()
		}
		if ctx.Err() != nil {
			return
		}
		klog.FromContext(ctx).Error(err, "Serving failed", "what", "questions", "socket", socket, "retryIn", listenRetry)
		select {
		case <-ctx.Done():
		case <-clk.After(listenRetry):
		}
	}
}

// witness answers for the loop.
type witness struct {
	questions questions
	node      string
}

// Service says what the forwarding table holds of a Service, and whether the kernel does.
func (w *witness) Service(ctx context.Context, name types.NamespacedName) (query.Service, error) {
	return ask(ctx, w.questions, func(l *loop) (query.Service, error) { return l.service(w.node, name), nil })
}

// Trace says what becomes of a packet, and what the kernel holds for it.
func (w *witness) Trace(ctx context.Context, p query.Packet) (query.Trace, error) {
	return ask(ctx, w.questions, func(l *loop) (query.Trace, error) { return l.trace(ctx, w.node, p) })
}

// Kernel says what the kernel holds where a packet is sent to.
func (w *witness) Kernel(ctx context.Context, p query.Packet) (query.Kernel, error) {
	return ask(ctx, w.questions, func(l *loop) (query.Kernel, error) { return l.kernel(ctx, p) })
}

// self is what is to be said of the node with every answer.
func (l *loop) self(name string) query.Node {
	n := query.Node{Name: name, Pending: l.pending()}
	if l.state.applied != nil {
		n.Mode, n.Revision = string(l.state.applied.Settings.Mode), l.state.applied.Revision
	}
	if since := l.state.lastSync; !since.IsZero() {
		n.Since = &since
	}
	return n
}

// pending says why the kernel does not hold the forwarding table; empty when it does.
func (l *loop) pending() string {
	changes := l.catalog.Changes()
	switch {
	case l.state.released || l.cleared:
		return "this node was released: another proxy serves it, or none"
	case l.state.assignment == nil:
		return "no settings are assigned to this node"
	case l.course == nil && l.state.refused != nil:
		return "the settings cannot be carried out here: " + l.state.refused.message
	case l.state.failed != nil:
		return "writing to the kernel failed and is tried again: " + l.state.failed.Error()
	case l.course == nil || l.state.lastSync.IsZero():
		return "the agent has just started and has not programmed anything yet"
	case !l.state.remembered.IsZero():
		return "the API server cannot be reached since the agent started; this is what it said last"
	case changes.PendingServices+changes.PendingSlices > 0:
		return fmt.Sprintf("%d changes of Services and %d of EndpointSlices are to be written next", changes.PendingServices, changes.PendingSlices)
	}
	return ""
}

func (l *loop) service(node string, name types.NamespacedName) query.Service {
	s := query.Service{Node: l.self(node), Service: name.String()}
	ports := l.table.Service(name)
	s.Known = len(ports) > 0
	s.Programmed = s.Known && s.Pending == ""
	slices.SortFunc(ports, func(a, b *forwarding.ServicePort) int {
		return strings.Compare(fmt.Sprint(a.ID.IPv6, a.ID), fmt.Sprint(b.ID.IPv6, b.ID))
	})
	for _, p := range ports {
		s.Ports = append(s.Ports, portOf(p))
	}
	for _, d := range l.table.Disputes() {
		concerned := d.Holder.Service == name
		dispute := query.Dispute{Address: d.Key.String(), Holder: d.Holder.String()}
		for _, waiting := range d.Waiting {
			concerned = concerned || waiting.Service == name
			dispute.Waiting = append(dispute.Waiting, waiting.String())
		}
		if concerned {
			s.Disputes = append(s.Disputes, dispute)
		}
	}
	if l.course != nil && l.course.engine != nil {
		for _, p := range l.course.engine.problems() {
			if p.Object.Namespace == name.Namespace && p.Object.Name == name.Name {
				s.LeftOut = append(s.LeftOut, p.Message)
			}
		}
	}
	return s
}

func portOf(p *forwarding.ServicePort) query.Port {
	port := query.Port{
		Name: p.ID.Port, Protocol: strings.ToUpper(p.ID.Protocol.String()), Family: "IPv4",
		Cluster: p.Cluster, Local: p.Local, AffinitySeconds: p.AffinitySeconds,
	}
	if p.ID.IPv6 {
		port.Family = "IPv6"
	}
	for i := range p.Frontends {
		f := &p.Frontends[i]
		port.Frontends = append(port.Frontends, query.Frontend{
			Kind: f.Kind.String(), Address: f.Key.String(), Sources: f.Sources,
			Pods: fate(f, forwarding.Pod), Node: fate(f, forwarding.Host), Elsewhere: fate(f, forwarding.Remote),
		})
	}
	return port
}

// fate is what becomes of the connections of a class of clients.
func fate(f *forwarding.Frontend, class forwarding.Class) string {
	switch f.Routes[class].Pool {
	case forwarding.Cluster:
		return "Cluster"
	case forwarding.Local:
		return "Local"
	}
	return map[forwarding.Verdict]string{
		forwarding.Reject: "Reject", forwarding.Drop: "Drop", forwarding.Ignore: "Ignore",
	}[f.Otherwise]
}

func (l *loop) trace(ctx context.Context, name string, p query.Packet) (query.Trace, error) {
	from, decision, err := l.decide(p)
	if err != nil {
		return query.Trace{}, err
	}
	t := query.Trace{
		Node: l.self(name), From: from.String(), To: p.To.String(), Protocol: strings.ToUpper(p.Protocol.String()), Decision: decision,
	}
	if t.Frontend == "" || l.course == nil {
		return t, nil
	}
	kernel, err := l.heldFor(ctx, p, decision.Candidates)
	t.Kernel = &kernel
	return t, err
}

func (l *loop) kernel(ctx context.Context, p query.Packet) (query.Kernel, error) {
	_, decision, err := l.decide(p)
	if err != nil {
		return query.Kernel{}, err
	}
	return l.heldFor(ctx, p, decision.Candidates)
}

// decide says where a packet comes from, and what becomes of it by the settings that run.
func (l *loop) decide(p query.Packet) (netip.Addr, trace.Decision, error) {
	own, err := addresses.List()
	if err != nil {
		return netip.Addr{}, trace.Decision{}, err
	}
	plan := &settings.Plan{}
	if l.course != nil {
		plan = &l.course.plan // what runs, and not what is tried
	}
	if p.Node {
		p.From = sourceTo(p.To.Addr(), append(slices.Clone(plan.Node.Addresses), own...))
	}
	node := &trace.Node{
		IPVS: plan.Mode == v1alpha1.ModeIPVS, Addresses: own, PodCIDRs: plan.IPTables.PodCIDRs, PodInterface: plan.IPTables.PodInterface,
		ServiceCIDRs: plan.Node.ServiceCIDRs, NodePortAddresses: plan.NodePortAddresses,
		LocalhostNodePorts: plan.IPTables.LocalhostNodePortsOpen(), ExcludeCIDRs: plan.IPVS.ExcludeCIDRs,
	}
	packet := trace.Packet{Source: p.From, FromPod: p.FromPod, Destination: p.To, Protocol: p.Protocol}
	return p.From, trace.Decide(l.table, node, packet), nil
}

// sourceTo is the address that the node would send from: its own, where that is where it sends to, or else the first of the
// family.
func sourceTo(to netip.Addr, own []netip.Addr) netip.Addr {
	for _, a := range own {
		if a == to {
			return a
		}
	}
	for _, a := range own {
		if a.Is6() == to.Is6() && addresses.Usable(a) {
			return a
		}
	}
	return to
}

// errNothing is the error of a question about the kernel before anything is programmed.
var errNothing = errors.New("nothing is programmed on this node")

// heldFor says what the kernel holds where a packet is sent to, and compares it with what was written, and the backends that
// it leads to with those that the forwarding table has there.
func (l *loop) heldFor(ctx context.Context, p query.Packet, candidates []netip.AddrPort) (query.Kernel, error) {
	if l.course == nil || l.course.engine == nil {
		return query.Kernel{}, errNothing
	}
	held, err := l.course.engine.Holding(ctx, p.To, p.Protocol)
	if err != nil {
		return query.Kernel{}, fmt.Errorf("reading the kernel back: %w", err)
	}
	k := query.Kernel{Holds: held.Lines, Differences: held.Differences}
	for _, b := range held.Backends {
		if !slices.Contains(candidates, b) {
			k.Differences = append(k.Differences, fmt.Sprintf("the kernel leads to %s, and the forwarding table does not", b))
		}
	}
	for _, b := range candidates {
		if !slices.Contains(held.Backends, b) {
			k.Differences = append(k.Differences, fmt.Sprintf("the forwarding table leads to %s, and the kernel does not", b))
		}
	}
	k.Equal = len(k.Differences) == 0
	return k, nil
}
