package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/test/churn"
)

const (
	massMS       = "many endpoints replaced, a lone change meanwhile, ms"
	spreadP      = "many endpoints, chi-square of the spread, p"
	flowsSeconds = "UDP flows ended among many entries, s"
	flowsCPU     = "UDP flows ended among many entries, CPU, s"
	flowsLeft    = "UDP flows left"
)

func (s *seat) startForEdges(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	if err := s.answers(ctx, largeIP, loneIP); err != nil {
		return err
	}
	return s.settle(ctx)
}

// massReplacement replaces all endpoints of the large Service within Mass, part by part, and times a Service that loses its only
// endpoint meanwhile.
func (s *seat) massReplacement(ctx context.Context) error {
	const parts = 10
	generation := int(s.world.generation.Add(1)) % 3
	old, fresh := s.world.large(generation), s.world.large((generation+1)%3)
	if err := s.world.move(ctx, largeService, old...); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	for part := range parts {
		begin := time.Now()
		border := len(fresh) * (part + 1) / parts
		if err := s.world.move(ctx, largeService, append(fresh[:border:border], old[border:]...)...); err != nil {
			return err
		}
		for time.Since(begin) < s.world.options.Mass*6/10/parts {
			to := s.world.fresh()
			start := time.Now()
			if err := s.world.move(ctx, loneService, to); err != nil {
				return err
			}
			if err := s.follows(ctx, loneIP, to); err != nil {
				return err
			}
			s.add(massMS, float64(time.Since(start).Microseconds())/1e3)
		}
		if err := pass(ctx, s.world.options.Mass/parts-time.Since(begin)); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// endedFlows fills conntrack, opens UDP flows to a Service, and takes its endpoint away.
func (s *seat) endedFlows(ctx context.Context) error {
	const flows = 1_000
	// What an earlier contestant did to the Service.
	if err := s.world.move(ctx, flowService); err != nil {
		return err
	}
	flowing := slice(flowService, spare(1<<13+1))
	flowing.Ports[0].Protocol = new(corev1.ProtocolUDP)
	if err := s.world.cluster.Client().Update(ctx, flowing); err != nil {
		return fmt.Errorf("giving the Service of UDP its endpoint: %w", err)
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	packets, err := s.server.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", churn.EndpointPort))
	if err != nil {
		return err
	}
	defer func() { _ = packets.Close() }()
	if err := s.client.Do(func() error { return errors.Join(sendToMany(s.world.options.Flows), sendFromMany(flowIP, flows)) }); err != nil {
		return err
	}
	switch n, err := s.flows(); {
	case err != nil:
		return err
	case n < flows:
		return fmt.Errorf("%d flows were opened, and conntrack has %d", flows, n)
	}
	metrics, err := s.scrape(ctx)
	if err != nil {
		return err
	}
	used, err := s.meter.used()
	if err != nil {
		return err
	}
	_, before := metrics.Histogram("kubeproxy_conntrack_reconciler_sync_duration_seconds")
	gone := metrics.Value("kubeproxy_conntrack_reconciler_deleted_entries_total")
	flowing.Endpoints[0].Addresses = []string{s.world.fresh().String()}
	if err := s.world.cluster.Client().Update(ctx, flowing); err != nil {
		return fmt.Errorf("taking the endpoint of the Service of UDP away: %w", err)
	}
	var after float64
	if err := s.until(ctx, "flows end", 50*time.Millisecond, func() (bool, error) {
		metrics, err := s.scrape(ctx)
		_, after = metrics.Histogram("kubeproxy_conntrack_reconciler_sync_duration_seconds")
		return metrics.Value("kubeproxy_conntrack_reconciler_deleted_entries_total") >= gone+flows, err
	}); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	now, err := s.meter.used()
	if err != nil {
		return err
	}
	left, err := s.flows()
	s.add(flowsSeconds, after-before)
	s.add(flowsCPU, (now - used).Seconds())
	s.add(flowsLeft, float64(left))
	return err
}

// flows is how many entries conntrack has for the Service of UDP.
func (s *seat) flows() (n int, err error) {
	err = s.node.Do(func() error {
		entries, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		if err != nil {
			return fmt.Errorf("listing conntrack: %w", err)
		}
		for _, e := range entries {
			if addr, _ := netip.AddrFromSlice(e.Forward.DstIP.To4()); addr == flowIP {
				n++
			}
		}
		return nil
	})
	return n, err
}

// sendToMany sends a datagram to each of n endpoints from one port.
func sendToMany(n int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	for i := range n {
		to := &unix.SockaddrInet4{Port: churn.EndpointPort, Addr: nth(endpointRange, 1<<16+i).As4()}
		if err := unix.Sendto(fd, []byte{0}, 0, to); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
	}
	return nil
}

// sendFromMany sends a datagram to a Service from each of n ports. Sockets stay open until the end, so that no two have the
// same.
func sendFromMany(to netip.Addr, n int) error {
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("making a socket: %w", err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Sendto(fd, []byte{0}, 0, &unix.SockaddrInet4{Port: churn.Port, Addr: to.As4()}); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
	}
	return nil
}

// spread asks the large Service many times, and adds how probable it is that a fair choice of endpoints is as uneven.
func (s *seat) spread(ctx context.Context) error {
	const each = 10
	n := s.world.options.Endpoints
	counts := map[netip.Addr]int{}
	if err := s.client.Do(func() error {
		for range each * n {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			who, err := ask(netip.AddrPortFrom(largeIP, churn.Port), 5*time.Second)
			switch {
			case disturbed(err):
			case err != nil:
				return err
			default:
				counts[who]++
			}
		}
		return nil
	}); err != nil {
		return err
	}
	total := 0
	for _, c := range counts {
		total += c
	}
	expected := float64(total) / float64(n)
	chi := float64(n-len(counts)) * expected // of those that nobody reached
	for _, c := range counts {
		chi += (float64(c) - expected) * (float64(c) - expected) / expected
	}
	s.add(spreadP, chiSquareP(chi, n-1))
	return nil
}

// chiSquareP is the probability of a value as high or higher, by the approximation of Wilson and Hilferty (1931).
func chiSquareP(chi float64, freedom int) float64 {
	k := float64(freedom)
	z := (math.Cbrt(chi/k) - (1 - 2/(9*k))) / math.Sqrt(2/(9*k))
	return math.Erfc(z/math.Sqrt2) / 2
}
