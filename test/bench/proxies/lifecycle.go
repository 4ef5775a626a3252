package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/serviceproxy/service-proxy-operator/test/churn"
)

// What is measured of a proxy. The names are those of the table.
const (
	coldSeconds    = "cold start, until Services answer, s"
	coldCPU        = "cold start, CPU, s"
	coldBytes      = "cold start, from the API server, MB"
	residentMB     = "resident memory, MB"
	residentPeakMB = "resident memory at its highest, MB"
	peakMB         = "memory of the control group at its highest, MB"
	kernelMB       = "kernel memory of the rules, MB"
	rulesCount     = "rules"
	chainsCount    = "chains"
	restartSeconds = "restart, until in sync, s"
	restartChains  = "restart, chains written"
	idleCPU        = "idle, CPU, ms per minute"
	idleChildren   = "idle, page faults of children"
)

func (s *seat) add(metric string, values ...float64) {
	s.world.results.add(s.name, metric, s.services, values...)
}

// coldStart starts the proxy on a node without rules.
func (s *seat) coldStart(ctx context.Context) error {
	begin := time.Now()
	if err := s.start(); err != nil {
		return err
	}
	ips := s.world.clusterIPs[:s.services]
	if err := s.answers(ctx, ips[0], ips[len(ips)/2], ips[len(ips)-1]); err != nil {
		return err
	}
	s.add(coldSeconds, time.Since(begin).Seconds())
	if err := s.settle(ctx); err != nil {
		return err
	}
	used, err := s.meter.used()
	if err != nil {
		return err
	}
	s.add(coldCPU, used.Seconds())
	s.add(coldBytes, float64(s.received.Load())/1e6)
	return s.weigh()
}

// weigh measures memory.
func (s *seat) weigh() error {
	resident, err := readField(fmt.Sprintf("/proc/%d/status", s.process.Pid()), "VmRSS")
	if err != nil {
		return err
	}
	highest, err := readField(fmt.Sprintf("/proc/%d/status", s.process.Pid()), "VmHWM")
	if err != nil {
		return err
	}
	peak, err := s.meter.peak()
	if err != nil {
		return err
	}
	s.add(residentMB, float64(resident)/1e3)
	s.add(residentPeakMB, float64(highest)/1e3)
	s.add(peakMB, peak/1e6)
	return nil
}

// settle waits until the proxy uses next to no CPU.
func (s *seat) settle(ctx context.Context) error {
	const look, little = 700 * time.Millisecond, 20 * time.Millisecond
	before, err := s.meter.used()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if err := pass(ctx, look); err != nil {
			return err
		}
		now, err := s.meter.used()
		if err != nil {
			return err
		}
		if now-before < little {
			return nil
		}
		before = now
	}
	return fmt.Errorf("%s does not come to rest", s.name)
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// idle watches the proxy with nothing to do.
func (s *seat) idle(ctx context.Context) error {
	if err := errors.Join(pass(ctx, s.world.options.Rest), s.settle(ctx)); err != nil {
		return err
	}
	used, err := s.meter.used()
	if err != nil {
		return err
	}
	faults, err := s.childFaults()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pass(ctx, s.world.options.Idle); err != nil {
		return err
	}
	after, err := s.meter.used()
	if err != nil {
		return err
	}
	more, err := s.childFaults()
	if err != nil {
		return err
	}
	s.add(idleCPU, float64((after-used).Microseconds())/1e3/time.Since(begin).Minutes())
	s.add(idleChildren, float64(more-faults))
	return nil
}

// childFaults is how many page faults children had that have ended (cminflt of proc_pid_stat(5)). While it stays the same no
// program has been run.
func (s *seat) childFaults() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Pid()))
	if err != nil {
		return 0, err
	}
	// What follows the name of the program, which is in parentheses, begins with the third field.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	return strconv.ParseInt(fields[11-3], 10, 64)
}

// scrape reads the metrics of the proxy.
func (s *seat) scrape(ctx context.Context) (churn.Metrics, error) {
	return churn.Scrape(ctx, s.node.Host, "http://127.0.0.1:10249/metrics")
}

// restart kills the proxy and starts it again on its own rules, which are right.
func (s *seat) restart(ctx context.Context) error {
	s.stop()
	begin := time.Now()
	if err := s.start(); err != nil {
		return err
	}
	var metrics churn.Metrics
	if err := s.until(ctx, "the first sync after a restart", 20*time.Millisecond, func() (bool, error) {
		var err error
		metrics, err = s.scrape(ctx)
		return err == nil && metrics.Value("kubeproxy_sync_proxy_rules_last_timestamp_seconds") > 0, nil
	}); err != nil {
		return err
	}
	s.add(restartSeconds, time.Since(begin).Seconds())
	if s.ours {
		s.add(restartChains, metrics.Value("serviceproxy_chains_written_total"))
	}
	return nil
}

// finish counts rules, ends the process, and weighs what it leaves in the kernel.
func (s *seat) finish(ctx context.Context) error {
	rules, chains, err := s.count(ctx)
	if err != nil {
		return err
	}
	s.stop()
	kernel, err := s.meter.kernel()
	if err != nil {
		return err
	}
	s.add(rulesCount, float64(rules))
	s.add(chainsCount, float64(chains))
	s.add(kernelMB, kernel/1e6)
	return nil
}

// count counts rules and chains in the tables that proxies use. An element of a map of nftables is neither.
func (s *seat) count(ctx context.Context) (rules, chains int, err error) {
	if s.backend == "" {
		text, err := s.node.Run(ctx, "nft", "--stateless", "--terse", "list", "ruleset")
		if err != nil {
			return 0, 0, err
		}
		depth, inChain := 0, false
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			switch {
			case line == "}":
				depth--
			case strings.HasSuffix(line, "{"):
				depth++
				if inChain = strings.HasPrefix(line, "chain "); inChain {
					chains++
				}
			case depth == 2 && inChain && line != "" && !strings.HasPrefix(line, "type ") && !strings.HasPrefix(line, "comment "):
				rules++
			}
		}
		return rules, chains, nil
	}
	for _, table := range []string{"nat", "filter", "mangle"} {
		text, err := s.node.Run(ctx, "iptables-"+s.backend+"-save", "-t", table)
		if err != nil {
			return 0, 0, err
		}
		rules += strings.Count("\n"+text, "\n-A ")
		chains += strings.Count("\n"+text, "\n:")
	}
	return rules, chains, nil
}
