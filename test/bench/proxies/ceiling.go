package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ceilingServices is how many Services a proxy can carry.
const ceilingServices = "Services that it keeps up with at 5 changes a second"

// lag is what nobody waits for who keeps up: the 99th percentile of the time until packets follow a change.
const lag = time.Second

// ceiling gives every contestant more and more Services until it no longer keeps up, or there are no more sizes.
func (w *world) ceiling(ctx context.Context) error {
	left, carried := w.contestants, map[string]int{}
	defer func() {
		for _, c := range w.contestants {
			if carried[c.name] > 0 {
				w.results.add(c.name, ceilingServices, 0, float64(carried[c.name]))
			}
		}
	}()
	for _, n := range w.options.Sizes {
		if len(left) == 0 {
			break
		}
		w.tell("creating Services until there are %d", n)
		if err := w.grow(ctx, n); err != nil {
			return err
		}
		var keeping []*contestant
		for _, c := range left {
			took, err := w.lagOf(ctx, c, n)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			w.tell("%d Services: packets follow after %.0f ms with %s", n, took, c.name)
			if took <= float64(lag.Milliseconds()) {
				carried[c.name] = n
				keeping = append(keeping, c)
			}
		}
		left = keeping
	}
	return nil
}

// lagOf is how long packets take to follow a change while there are others, in milliseconds.
func (w *world) lagOf(ctx context.Context, c *contestant, n int) (ms float64, err error) {
	s, err := w.take(ctx, c, n)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, step := range []func(context.Context) error{s.coldStart, s.churn5} {
		if err := step(ctx); err != nil {
			return 0, fmt.Errorf("%w\n%s", err, s.lastWords())
		}
	}
	return quantile(w.results.samples[key{c.name, churn5MS, n}], 0.99), nil
}
