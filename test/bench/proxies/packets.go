package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/bench/connect"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
)

// Packets are measured as the time of connect(2), divided by that through a node with conntrack and translation but
// without a Service: "clean".
const (
	packetLast   = "first packet, last Service / clean"
	packetMedian = "first packet, median Service / clean"
	packetRandom = "first packet, 500 random Services / clean"
	packetMiss   = "first packet, no Service / clean"
	packetPort   = "first packet, last node port / clean"
	packetLarge  = "first packet, Service of many endpoints / clean"
	cleanMicros  = "first packet, clean, us"
)

// target is one of the things that connections are opened to in turn.
type target struct {
	seat    *seat
	metric  string
	next    func() netip.AddrPort
	samples []float64
}

// sockets makes sockets of the client until the context ends. A socket stays in the network namespace that it was made in.
func (s *seat) sockets(ctx context.Context) (<-chan int, func() error) {
	made, ended := make(chan int, 4), make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	go func() {
		defer close(made)
		ended <- s.client.Do(func() error {
			for {
				fd, err := connect.Socket(5 * time.Second)
				if err != nil {
					return err
				}
				select {
				case made <- fd:
				case <-ctx.Done():
					return unix.Close(fd)
				}
			}
		})
	}()
	return made, func() error {
		stop()
		var errs []error
		for fd := range made {
			errs = append(errs, unix.Close(fd))
		}
		return errors.Join(append(errs, <-ended)...)
	}
}

// packets opens connections through what all contestants left, in turn, so that whatever else the machine does hits all of
// them alike.
func (w *world) packets(ctx context.Context, n int, seats []*seat) error {
	ips := slices.SortedFunc(slices.Values(w.clusterIPs[:n]), netip.Addr.Compare)
	random := rand.New(rand.NewPCG(3, 4))
	some := make([]netip.Addr, 500)
	for i := range some {
		some[i] = ips[random.IntN(n)]
	}
	service := func(a netip.Addr) func() netip.AddrPort {
		return func() netip.AddrPort { return netip.AddrPortFrom(a, churn.Port) }
	}
	var targets []*target
	for _, s := range seats {
		targets = append(targets,
			&target{seat: s, metric: packetLast, next: service(ips[n-1])},
			&target{seat: s, metric: packetMedian, next: service(ips[n/2])},
			&target{seat: s, metric: packetRandom, next: func() netip.AddrPort {
				return netip.AddrPortFrom(some[random.IntN(len(some))], churn.Port)
			}},
			&target{seat: s, metric: packetMiss, next: direct(s)})
	}
	return w.connectAll(ctx, n, targets)
}

// direct is an endpoint without a Service before it.
func direct(*seat) func() netip.AddrPort {
	return func() netip.AddrPort { return netip.AddrPortFrom(spare(1<<13+99), churn.EndpointPort) }
}

// edgePackets is packets for node ports and the large Service.
func (w *world) edgePackets(ctx context.Context, seats []*seat) error {
	var targets []*target
	for _, s := range seats {
		port := netip.AddrPortFrom(s.node.IPv4, uint16(firstNodePort+w.options.NodePorts-1))
		targets = append(targets,
			&target{seat: s, metric: packetPort, next: func() netip.AddrPort { return port }},
			&target{seat: s, metric: packetLarge, next: func() netip.AddrPort { return netip.AddrPortFrom(largeIP, churn.Port) }})
	}
	if err := w.connectAll(ctx, 0, targets); err != nil {
		return err
	}
	for _, s := range seats {
		if err := s.spread(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// cleanRules give a node conntrack and translation, and no packet to translate.
const cleanRules = "*nat\n-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 9 -j DNAT --to-destination 192.0.2.2:9\n" +
	"-A POSTROUTING -s 192.0.2.1/32 -j MASQUERADE\nCOMMIT\n"

// connectAll adds a clean node for each backend, opens connections to all targets in turn, and adds what was measured. A clean
// node gets as many connections as any other: what is used less is in no cache.
func (w *world) connectAll(ctx context.Context, n int, targets []*target) (err error) {
	var clean []*seat
	defer func() { err = errors.Join(err, w.leave(clean)) }()
	each := map[*seat]int{}
	for _, t := range targets {
		each[t.seat]++
	}
	turns := slices.Clone(targets)
	cleanOf := map[string]*target{}
	for _, backend := range []string{"nft", "legacy"} {
		s, err := w.take(ctx, &contestant{name: "clean-" + backend, backend: backend}, n)
		if err != nil {
			return err
		}
		clean = append(clean, s)
		if _, err := s.node.RunInput(ctx, cleanRules, "iptables-"+backend+"-restore"); err != nil {
			return err
		}
		cleanOf[backend] = &target{seat: s, metric: cleanMicros, next: direct(s)}
		targets = append(targets, cleanOf[backend])
		turns = append(turns, slices.Repeat([]*target{cleanOf[backend]}, each[targets[0].seat])...)
	}
	cleanOf[""] = cleanOf["nft"] // of nftables
	if err := takeTurns(ctx, turns, w.options.Rounds); err != nil {
		return err
	}
	for _, t := range targets {
		if len(t.samples) < w.options.Rounds/2 {
			return fmt.Errorf("%s: %s: only %d of %d connections were made", t.seat.name, t.metric, len(t.samples), w.options.Rounds)
		}
		if t.metric == cleanMicros {
			w.results.add(t.seat.name, cleanMicros, n, t.samples...)
			continue
		}
		divisor := median(cleanOf[t.seat.backend].samples)
		for i := range t.samples {
			t.samples[i] /= divisor
		}
		t.seat.add(t.metric, t.samples...)
	}
	return nil
}

// disturbed says whether a connection tells nothing: a signal of the Go runtime came in between, or its port was used a
// moment ago and conntrack took it for the connection before, as happens with every proxy once in ten thousand times.
func disturbed(err error) bool {
	return slices.ContainsFunc([]error{unix.EINTR, unix.ECONNREFUSED, unix.ECONNRESET, unix.ENETUNREACH, unix.EHOSTUNREACH},
		func(harmless error) bool { return errors.Is(err, harmless) })
}

// takeTurns connects to all targets in turn, in another order each time. One thread on one CPU does it, for all clients: the
// kernel takes packets between them on from there, and which CPU woke which other would weigh more than the rules.
func takeTurns(ctx context.Context, targets []*target, rounds int) (err error) {
	sockets := map[*seat]<-chan int{}
	for _, t := range targets {
		if sockets[t.seat] == nil {
			made, stop := t.seat.sockets(ctx)
			sockets[t.seat] = made
			defer func() { err = errors.Join(err, stop()) }()
		}
	}
	return onOneCPU(func() error {
		order := slices.Clone(targets)
		for round := range rounds {
			rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			for _, t := range order {
				fd, ok := <-sockets[t.seat]
				if !ok {
					return cmp.Or(context.Cause(ctx), fmt.Errorf("%s: there are no more sockets", t.seat.name))
				}
				took, err := connect.Time(fd, t.next())
				_ = unix.Close(fd) // resets the connection
				switch {
				case disturbed(err):
				case err != nil:
					return fmt.Errorf("%s: %s: %w", t.seat.name, t.metric, err)
				case round > 0: // the first makes neighbours known
					t.samples = append(t.samples, float64(took.Nanoseconds())/1e3)
				}
			}
		}
		return nil
	})
}

// onOneCPU runs f on a thread of its own that stays on the last of the CPUs it may use.
func onOneCPU(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		result <- func() error {
			var allowed unix.CPUSet
			if err := unix.SchedGetaffinity(0, &allowed); err != nil {
				return fmt.Errorf("asking for the CPUs: %w", err)
			}
			var last unix.CPUSet
			for cpu := range len(allowed) * bits.UintSize {
				if allowed.IsSet(cpu) {
					last.Zero()
					last.Set(cpu)
				}
			}
			if err := unix.SchedSetaffinity(0, &last); err != nil {
				return fmt.Errorf("staying on a CPU: %w", err)
			}
			return f()
		}()
	}()
	return <-result
}
