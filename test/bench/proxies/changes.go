package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	loneMS      = "a lone change, until packets follow, ms"
	loneCPU     = "a lone change, CPU, ms"
	loneBytes   = "a lone change, from the API server, kB"
	churn5MS    = "5 changes a second, until packets follow, ms"
	churn5CPU   = "5 changes a second, CPU, percent of one"
	churn100MS  = "100 changes a second, until packets follow, ms"
	churn100CPU = "100 changes a second, CPU, percent of one"
)

// loneChanges times single changes, far enough apart that none waits for the one before.
func (s *seat) loneChanges(ctx context.Context) error {
	random := rand.New(rand.NewPCG(5, 6))
	before, err := s.meter.used()
	if err != nil {
		return err
	}
	received := s.received.Load()
	for range s.world.options.Changes {
		took, err := s.change(ctx, random.IntN(s.services))
		if err != nil {
			return err
		}
		s.add(loneMS, took)
		if err := pass(ctx, 1200*time.Millisecond); err != nil {
			return err
		}
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	after, err := s.meter.used()
	if err != nil {
		return err
	}
	n := float64(s.world.options.Changes)
	s.add(loneCPU, float64((after-before).Microseconds())/1e3/n)
	s.add(loneBytes, float64(s.received.Load()-received)/1e3/n)
	return nil
}

// change gives a Service another endpoint, and returns after how many milliseconds packets go there.
func (s *seat) change(ctx context.Context, i int) (ms float64, err error) {
	to := s.world.fresh()
	begin := time.Now()
	if err := s.world.move(ctx, name(i), to); err != nil {
		return 0, err
	}
	if err := s.follows(ctx, s.world.clusterIPs[i], to); err != nil {
		return 0, err
	}
	return float64(time.Since(begin).Microseconds()) / 1e3, nil
}

func (s *seat) churn5(ctx context.Context) error   { return s.churn(ctx, 5, churn5MS, churn5CPU) }
func (s *seat) churn100(ctx context.Context) error { return s.churn(ctx, 100, churn100MS, churn100CPU) }

// churn changes endpoints all the time. It measures CPU at first, and then times other changes, which are more where they
// take less time and so would cost the quicker proxy the most.
func (s *seat) churn(ctx context.Context, rate int, latency, cpu string) error {
	// Half of the Services change all the time; those that are timed are among the others.
	half := s.services / 2
	storm, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.storm(storm, rate, half) }()
	end := func() error {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	before, err := s.meter.used()
	if err != nil {
		return errors.Join(err, end())
	}
	begin := time.Now()
	if err := pass(ctx, s.world.options.Churn); err != nil {
		return errors.Join(err, end())
	}
	after, err := s.meter.used()
	if err != nil {
		return errors.Join(err, end())
	}
	s.add(cpu, 100*float64(after-before)/float64(time.Since(begin)))
	begin = time.Now()
	random := rand.New(rand.NewPCG(7, 8))
	for time.Since(begin) < s.world.options.Churn {
		took, err := s.change(ctx, half+random.IntN(s.services-half))
		if err == nil {
			s.add(latency, took)
			err = pass(ctx, time.Duration(50+random.IntN(200))*time.Millisecond)
		}
		if err != nil {
			return errors.Join(err, end())
		}
	}
	if err := end(); err != nil {
		return err
	}
	return s.settle(ctx)
}

// storm changes endpoints of the first Services at a rate until the context ends.
func (s *seat) storm(ctx context.Context, rate, services int) error {
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	slots := make(chan struct{}, 16)
	failures := make(chan error, 1)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failures:
			return err
		case <-ticker.C:
		}
		slots <- struct{}{}
		to := s.world.fresh()
		go func() {
			defer func() { <-slots }()
			if err := s.world.move(ctx, name(i%services), to); err != nil && ctx.Err() == nil {
				select {
				case failures <- err:
				default:
				}
			}
		}()
	}
}
