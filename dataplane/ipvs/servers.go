package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

// servers are the virtual servers of both families: what is wanted of them, and what the kernel holds.
type servers struct {
	kernel *virtualserver.Kernel
	clock  clock.Clock
	want   map[virtualserver.Key]serverClaim
	have   map[virtualserver.Key]*held
	// touched are those that may differ.
	touched map[virtualserver.Key]struct{}
	// foreign are those that somebody else made.
	foreign map[virtualserver.Key]struct{}
	// draining are real servers that have left, and since when.
	draining map[leaving]time.Time
	// turn are the virtual servers that are still to be looked at before all others.
	turn []virtualserver.Key
}

// held is a virtual server in the kernel. Nothing is known of the real servers of one that is not ours.
type held struct {
	virtualserver.Server
	foreign bool
	weights map[netip.AddrPort]uint32
	// datagrams says that it has no connections whose end could be waited for.
	datagrams bool
}

// leaving is a real server that has left its virtual server and may still have connections.
type leaving struct {
	key  virtualserver.Key
	addr netip.AddrPort
}

func newServers(kernel *virtualserver.Kernel, clk clock.Clock) *servers {
	return &servers{
		kernel: kernel, clock: clk,
		want: map[virtualserver.Key]serverClaim{}, have: map[virtualserver.Key]*held{},
		touched: map[virtualserver.Key]struct{}{}, draining: map[leaving]time.Time{}, foreign: map[virtualserver.Key]struct{}{},
	}
}

func (s *servers) claim(c serverClaim) {
	s.want[c.Key] = c
	s.touched[c.Key] = struct{}{}
}

func (s *servers) retract(key virtualserver.Key) {
	delete(s.want, key)
	s.touched[key] = struct{}{}
}

func (s *servers) retractAll() {
	for key := range s.want {
		s.touched[key] = struct{}{}
	}
	clear(s.want)
}

// read asks the kernel for everything. A real server of ours without weight was leaving when an agent stopped.
func (s *servers) read(ctx context.Context) error {
	states, err := s.kernel.List(ctx)
	if err != nil {
		return err
	}
	before := s.have
	clear(s.foreign)
	s.have = make(map[virtualserver.Key]*held, len(states))
	for _, state := range states {
		h := &held{Server: state.Server, foreign: !state.Ours(), datagrams: state.Protocol == forwarding.UDP}
		if b := before[state.Key]; b != nil {
			h.datagrams = b.datagrams
		}
		s.have[state.Key] = h
		if h.foreign {
			s.foreign[state.Key] = struct{}{}
			continue
		}
		h.weights = make(map[netip.AddrPort]uint32, len(state.Real))
		for _, r := range state.Real {
			h.weights[r.Addr] = r.Weight
			if r.Weight == 0 {
				s.leave(leaving{state.Key, r.Addr})
			}
		}
	}
	for l := range s.draining {
		if h := s.have[l.key]; h == nil || h.foreign || !has(h.weights, l.addr) {
			delete(s.draining, l)
		}
	}
	for key := range s.have {
		s.touched[key] = struct{}{}
	}
	for key := range s.want {
		s.touched[key] = struct{}{}
	}
	return nil
}

func has(weights map[netip.AddrPort]uint32, addr netip.AddrPort) bool {
	_, ok := weights[addr]
	return ok
}

func (s *servers) leave(l leaving) {
	if _, known := s.draining[l]; !known {
		s.draining[l] = s.clock.Now()
	}
}

// open adds virtual and real servers that are missing, and returns how many changes that were. An address where somebody
// else has a virtual server by now is left to him.
func (s *servers) open(ctx context.Context) (int, error) {
	var batch virtualserver.Batch
	for key := range s.touched {
		c, wanted := s.want[key]
		h := s.have[key]
		switch {
		case !wanted || h != nil && h.foreign:
		case h == nil:
			batch.AddServer(c.Server)
			s.have[key] = &held{Server: c.Server, weights: map[netip.AddrPort]uint32{}, datagrams: c.port.Protocol == forwarding.UDP}
		case h.Server != c.Server:
			batch.SetServer(c.Server)
			h.Server = c.Server
		}
	}
	changes := len(batch)
	for _, failure := range s.kernel.Do(ctx, batch) {
		if failure.Action == virtualserver.AddServer && errors.Is(failure, unix.EEXIST) {
			s.have[failure.Server.Key] = &held{Server: failure.Server, foreign: true}
			s.foreign[failure.Server.Key] = struct{}{}
			continue
		}
		return changes, failure
	}
	batch = nil
	for key := range s.touched {
		c, wanted := s.want[key]
		h := s.have[key]
		if !wanted || h.foreign {
			continue
		}
		h.datagrams = c.port.Protocol == forwarding.UDP
		for _, addr := range c.backends {
			backend := virtualserver.RealServer{Addr: addr, Weight: 1}
			weight, there := h.weights[addr]
			switch {
			case !there:
				batch.AddReal(key, backend)
			case weight != 1:
				batch.SetReal(key, backend)
				delete(s.draining, leaving{key, addr})
			}
			h.weights[addr] = 1
		}
	}
	return changes + len(batch), first(s.kernel.Do(ctx, batch))
}

// shut takes new connections away from real servers that are not wanted any more, and removes those that have none to keep.
func (s *servers) shut(ctx context.Context) (int, error) {
	var batch virtualserver.Batch
	for key := range s.touched {
		h := s.have[key]
		if h == nil || h.foreign {
			continue
		}
		c := s.want[key]
		for addr, weight := range h.weights {
			if _, wanted := slices.BinarySearchFunc(c.backends, addr, netip.AddrPort.Compare); wanted {
				continue
			}
			switch {
			case h.datagrams:
				batch.DeleteReal(key, virtualserver.RealServer{Addr: addr})
				delete(h.weights, addr)
				delete(s.draining, leaving{key, addr})
			case weight > 0:
				batch.SetReal(key, virtualserver.RealServer{Addr: addr})
				h.weights[addr] = 0
				s.leave(leaving{key, addr})
			}
		}
		s.deleteEmpty(&batch, key)
	}
	if err := first(s.kernel.Do(ctx, batch)); err != nil {
		return len(batch), err
	}
	clear(s.touched)
	return len(batch), nil
}

// deleteEmpty deletes a virtual server of ours that is not wanted and has no real server left.
func (s *servers) deleteEmpty(batch *virtualserver.Batch, key virtualserver.Key) {
	h := s.have[key]
	if _, wanted := s.want[key]; !wanted && len(h.weights) == 0 {
		batch.DeleteServer(key)
		delete(s.have, key)
	}
}

// The pauses between two looks at real servers that are leaving.
const (
	firstLook = time.Second
	laterLook = 10 * time.Second
	// earlyLooks is for how long a look is worth it every second: most connections end soon.
	earlyLooks = 30 * time.Second
)

// drain removes real servers that have left when their connections have ended, or have lasted as long as they may.
func (s *servers) drain(ctx context.Context, timeout time.Duration) (connections int, again time.Duration, err error) {
	if len(s.draining) == 0 {
		return 0, 0, nil
	}
	keys := map[virtualserver.Key]struct{}{}
	for l := range s.draining {
		keys[l.key] = struct{}{}
	}
	counts, err := s.kernel.Connections(ctx, keys)
	if err != nil {
		return 0, 0, err
	}
	now := s.clock.Now()
	var batch virtualserver.Batch
	for l, since := range s.draining {
		left := counts[l.key][l.addr]
		n := int(left.Active + left.Inactive)
		if age := now.Sub(since); n > 0 && age < timeout {
			connections += n
			if look := lookAgain(age); again == 0 || look < again {
				again = min(look, timeout-age)
			}
			continue
		}
		batch.DeleteReal(l.key, virtualserver.RealServer{Addr: l.addr})
		delete(s.have[l.key].weights, l.addr)
		delete(s.draining, l)
		s.deleteEmpty(&batch, l.key)
	}
	return connections, again, first(s.kernel.Do(ctx, batch))
}

func lookAgain(age time.Duration) time.Duration {
	if age < earlyLooks {
		return firstLook
	}
	return laterLook
}

// first is the first failure that is not about something that is gone already.
func first(failures []*virtualserver.Failure) error {
	for _, f := range failures {
		gone := errors.Is(f, unix.ENOENT) || errors.Is(f, unix.ESRCH)
		if deletes := f.Action == virtualserver.DeleteReal || f.Action == virtualserver.DeleteServer; deletes && gone {
			continue
		}
		return f
	}
	return nil
}
