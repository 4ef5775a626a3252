package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Retirement is what is left of the mode on a node that has left it: virtual servers that take no new connections, and the
// routes that bring packets of old ones to them.
type Retirement struct {
	servers *servers
	timeout time.Duration
	// forgetAt is when IPVS may be had forget connections again.
	forgetAt time.Time
}

// forgetRest is how many times as long as it takes to have IPVS forget connections there is a rest after it: the kernel
// lists very many of them slowly.
const forgetRest = 20

// Retire takes the mode out of the way of another that carries out the forwarding table by now, or removes what an earlier
// agent left of it. It removes rules and sets, which only new connections need. Connections may stay for as long as timeout.
// It returns nil when nothing else is there.
func Retire(ctx context.Context, t *xtables.Tools, clk clock.Clock, timeout time.Duration) (*Retirement, error) {
	for _, programs := range t.Families {
		if err := programs.Remove(ctx, prefix, tables()...); err != nil {
			return nil, err
		}
	}
	return RetireServers(ctx, clk, timeout)
}

// RetireServers is Retire where it is known that there are no rules.
func RetireServers(ctx context.Context, clk clock.Clock, timeout time.Duration) (*Retirement, error) {
	if err := destroySets(); err != nil {
		return nil, err
	}
	kernel, err := virtualserver.Open()
	if err != nil {
		return nil, err
	}
	r := &Retirement{servers: newServers(kernel, clk), timeout: timeout}
	err = r.servers.quiesce(ctx)
	if _, missing := errors.AsType[*virtualserver.MissingModuleError](err); missing {
		// A kernel without IPVS has no virtual servers.
		return nil, errors.Join(kernel.Close(), removeRoutes(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, kernel.Close())
	}
	return r, nil
}

// quiesce takes new connections away from every virtual server of ours. Flows of UDP go on too: their next packets would
// otherwise be lost.
func (s *servers) quiesce(ctx context.Context) error {
	if err := s.read(ctx); err != nil {
		return err
	}
	var batch virtualserver.Batch
	for key, h := range s.have {
		if h.foreign {
			continue
		}
		for addr, weight := range h.weights {
			if weight > 0 {
				batch.SetReal(key, virtualserver.RealServer{Addr: addr})
				h.weights[addr] = 0
			}
			s.leave(leaving{key, addr})
		}
		s.deleteEmpty(&batch, key)
	}
	clear(s.touched)
	return first(s.kernel.Do(ctx, batch))
}

// Close ends the retirement and leaves everything as it is, for an engine that takes the mode up again.
func (r *Retirement) Close() error { return r.servers.kernel.Close() }

// Step removes what no connection needs any more, or has been needed for as long as that may be. It returns how many
// connections are left, and when to look again; zero when nothing is left of the mode, and the retirement is over.
func (r *Retirement) Step(ctx context.Context) (connections int, again time.Duration, err error) {
	if begin := r.servers.clock.Now(); !begin.Before(r.forgetAt) {
		if err := r.servers.forget(ctx); err != nil {
			return 0, 0, err
		}
		r.forgetAt = begin.Add((1 + forgetRest) * r.servers.clock.Since(begin))
	}
	connections, again, err = r.servers.drain(ctx, r.timeout)
	if err != nil || again > 0 {
		return connections, again, err
	}
	if err := removeRoutes(ctx); err != nil {
		return 0, 0, err
	}
	return 0, 0, r.Close()
}

// forget has connections forgotten that have ended, of real servers that get none any more. Otherwise the kernel would end
// newer ones from the same ports, which go by the rules of the other mode, when it forgets them.
func (s *servers) forget(ctx context.Context) error {
	left := make(map[netip.AddrPort]bool, len(s.draining))
	for l := range s.draining {
		left[l.addr] = true
	}
	if len(left) == 0 {
		return nil
	}
	_, err := virtualserver.Forget(ctx, func(addr netip.AddrPort) bool { return left[addr] })
	return err
}

// Cleanup removes everything that this package ever made on the node, and nothing else. Connections through it are cut.
func Cleanup(ctx context.Context) error {
	err := xtables.Cleanup(ctx, prefix, tables()...)
	r, retireErr := RetireServers(ctx, clock.RealClock{}, 0)
	err = errors.Join(err, retireErr)
	if r != nil {
		_, _, stepErr := r.Step(ctx)
		err = errors.Join(err, stepErr)
	}
	return err
}

func destroySets() error {
	names, err := ipset.Names(prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ipset.Destroy(name); err != nil {
			return err
		}
	}
	return nil
}

func removeRoutes(ctx context.Context) error {
	var errs []error
	for _, ipv6 := range []bool{false, true} {
		_, err := routes.Sync(ctx, ipv6, nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
