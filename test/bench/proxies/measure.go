package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// measure measures everything. What was measured before an error is returned beside it.
func measure(ctx context.Context, o Options, tell func(format string, args ...any)) (results *Results, err error) {
	c, err := cluster.Start(ctx, cluster.Options{Nodes: []string{"seat"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	w := &world{cluster: c, options: o, tell: tell, results: newResults()}
	if err := w.prepare(ctx); err != nil {
		return nil, err
	}
	if o.Ceiling {
		return w.results, w.ceiling(ctx)
	}
	// What goes wrong with one part says nothing about the next.
	var failures []error
	if o.Edges {
		if err := w.edges(ctx); err != nil {
			failures = append(failures, fmt.Errorf("measuring node ports, a large Service and flows: %w", err))
		}
	}
	for _, n := range o.Sizes {
		if err := w.size(ctx, n); err != nil {
			failures = append(failures, fmt.Errorf("measuring %d Services: %w", n, err))
		}
	}
	return w.results, errors.Join(failures...)
}

// size measures all contestants with n Services, then packets through what they left.
func (w *world) size(ctx context.Context, n int) (err error) {
	w.tell("creating Services until there are %d", n)
	if err := w.grow(ctx, n); err != nil {
		return err
	}
	var seats []*seat
	defer func() { err = errors.Join(err, w.leave(seats)) }()
	for _, c := range w.contestants {
		w.tell("%d Services: %s", n, c.name)
		s, err := w.take(ctx, c, n)
		if err != nil {
			return err
		}
		seats = append(seats, s)
		if err := s.course(ctx); err != nil {
			return fmt.Errorf("%s: %w\n%s", c.name, err, s.lastWords())
		}
	}
	w.tell("%d Services: packets", n)
	return w.packets(ctx, n, seats)
}

// course is what each contestant goes through. At its end its process is gone and its rules are there.
func (s *seat) course(ctx context.Context) error {
	steps := []func(context.Context) error{s.coldStart, s.loneChanges, s.churn5, s.churn100, s.idle, s.restart, s.finish}
	if s.world.options.PerService > 1 {
		steps = []func(context.Context) error{s.coldStart, s.idle, s.restart, s.finish}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// edges measures 2,000 node ports, one Service of 1,000 endpoints, and flows that have to end.
func (w *world) edges(ctx context.Context) (err error) {
	w.tell("creating %d node ports and a Service of %d endpoints", w.options.NodePorts, w.options.Endpoints)
	remove, err := w.createEdges(ctx)
	if err != nil {
		return err
	}
	var seats []*seat
	defer func() { err = errors.Join(err, w.leave(seats), remove(context.WithoutCancel(ctx))) }()
	for _, c := range w.contestants {
		w.tell("edges: %s", c.name)
		s, err := w.take(ctx, c, 0)
		if err != nil {
			return err
		}
		seats = append(seats, s)
		for _, step := range []func(context.Context) error{s.startForEdges, s.massReplacement, s.endedFlows, s.finish} {
			if err := step(ctx); err != nil {
				return fmt.Errorf("%s: %w\n%s", c.name, err, s.lastWords())
			}
		}
	}
	w.tell("edges: packets")
	return w.edgePackets(ctx, seats)
}

// leave takes down the nodes of contestants.
func (w *world) leave(seats []*seat) error {
	var errs []error
	for _, s := range slices.Backward(seats) {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
