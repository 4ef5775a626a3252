package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Target is a TCP port of a Service that is to be reached at its cluster IP, in every family that it has one in.
type Target struct {
	// Name is how people know it.
	Name    string
	Service types.NamespacedName
	Port    uint16
}

// Targets are the API server, at port 443 of Service default/kubernetes, and the probes that people named.
func Targets(named []v1alpha1.Probe) []Target {
	targets := []Target{{
		Name:    "API server",
		Service: types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "kubernetes"},
		Port:    443,
	}}
	for _, p := range named {
		targets = append(targets, Target{
			Name:    p.Name,
			Service: types.NamespacedName{Namespace: p.Service.Namespace, Name: p.Service.Name},
			Port:    uint16(p.Service.Port),
		})
	}
	return targets
}

// Passed is a target that answered at one of its addresses.
type Passed struct {
	Target
	At netip.AddrPort
}

// String is the name of the target and its address.
func (p Passed) String() string {
	return fmt.Sprintf("%s (Service %s at %s)", p.Name, p.Service, p.At)
}

// FailedError says which targets answered before and do not answer any more.
type FailedError struct {
	Failed []Passed
	// Errs has for each the error of the last attempt.
	Errs []error
	// After is how long they were tried.
	After time.Duration
}

// Error names every target that failed.
func (e *FailedError) Error() string {
	failures := make([]string, 0, len(e.Failed))
	for i, p := range e.Failed {
		failures = append(failures, fmt.Sprintf("%s answered with the settings before, and not in %s with these: %v",
			p, e.After.Round(time.Second), e.Errs[i]))
	}
	return strings.Join(failures, "; ")
}

// Unwrap returns the errors of the last attempts.
func (e *FailedError) Unwrap() []error { return e.Errs }

// How long things may take. While a node proves new settings it follows no changes, and if they are bad its connections
// fail: better to return a little too soon than to wait for everything that could still come right.
const (
	// attempt is enough for a SYN to be lost and sent again (RFC 6298: after one second).
	attempt = 1500 * time.Millisecond
	pause   = 200 * time.Millisecond
	// patience is how long a target may fail after new settings were written.
	patience = 10 * time.Second
)

// Prober makes connections.
type Prober struct {
	Clock clock.Clock
	// Dial opens a connection, as net.Dialer.DialContext does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns a prober that connects from the network namespace it is used in.
func New(clk clock.Clock) *Prober {
	return &Prober{Clock: clk, Dial: (&net.Dialer{}).DialContext}
}

// Passing tries every address of targets once, all at the same time, and returns those that answer, in a stable order.
func (p *Prober) Passing(ctx context.Context, table *forwarding.Table, targets []Target) []Passed {
	all := addresses(table, targets)
	var passing []Passed
	for i, err := range p.tryAll(ctx, all) {
		if err == nil {
			passing = append(passing, all[i])
		}
	}
	return passing
}

// Check tries those that passed before again until each has answered once. Those whose Service is gone meanwhile are left
// out. It gives up after some seconds with a *FailedError, or with the error of the context.
func (p *Prober) Check(ctx context.Context, table *forwarding.Table, before []Passed) error {
	start := p.Clock.Now()
	left := slices.DeleteFunc(slices.Clone(before), func(b Passed) bool { return !held(table, b) })
	for {
		var failed FailedError
		for i, err := range p.tryAll(ctx, left) {
			if err != nil {
				failed.Failed, failed.Errs = append(failed.Failed, left[i]), append(failed.Errs, err)
			}
		}
		if left = failed.Failed; len(left) == 0 {
			return nil
		}
		if failed.After = p.Clock.Since(start); failed.After >= patience {
			return &failed
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("probing: %w", context.Cause(ctx))
		case <-p.Clock.After(pause):
		}
	}
}

// tryAll tries all at the same time.
func (p *Prober) tryAll(ctx context.Context, all []Passed) []error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { errs[i] = p.try(ctx, all[i].At) })
	}
	wg.Wait()
	return errs
}

var errNoAnswer = errors.New("no answer")

func (p *Prober) try(ctx context.Context, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeoutCause(ctx, attempt, errNoAnswer)
	defer cancel()
	conn, err := p.Dial(ctx, "tcp", at.String())
	if err != nil {
		if errors.Is(context.Cause(ctx), errNoAnswer) {
			return errNoAnswer
		}
		return err
	}
	_ = conn.Close() // it was opened, which is all that counts
	return nil
}

// addresses are the cluster IPs of targets, by name of the target and then IPv4 first.
func addresses(table *forwarding.Table, targets []Target) []Passed {
	var all []Passed
	for _, path := range Paths(table, targets) {
		all = append(all, path.Passed)
	}
	return all
}

// held says whether the address still leads to the Service.
func held(table *forwarding.Table, p Passed) bool {
	port := table.Holder(forwarding.Key{Addr: p.At.Addr(), Port: p.At.Port(), Protocol: forwarding.TCP, IPv6: p.At.Addr().Is6()})
	return port != nil && port.ID.Service == p.Service
}
