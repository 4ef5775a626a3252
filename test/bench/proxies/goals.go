package main

import "math"

// goal is something to be reached: a measured value of ours, divided by that of another.
type goal struct {
	key
	Ratio   float64 `json:"ratio"`
	AtMost  float64 `json:"atMost,omitempty"`
	AtLeast float64 `json:"atLeast,omitempty"`
	Of      string  `json:"of"`
	Reached bool    `json:"reached"`
}

// aim is the target of a goal: by metric, who is divided by, and how much it may be.
type aim struct {
	metric string
	// from and to are the numbers of Services that it holds for.
	from, to int
	// of is a contestant, or one of the words below.
	of     string
	atMost float64
	// atLeast is how much it has to be instead, of what is to be large; 0 for nothing of the kind.
	atLeast float64
	// contestant is whom it is about; both of ours when empty.
	contestant string
	// tail compares the 99th percentile too.
	tail bool
}

const (
	// best is the best of kube-proxy in any mode, itself nobody: the value as it is, and same kube-proxy in mode iptables
	// with the same backend.
	best, itself, same = "the best kube-proxy", "itself", "kube-proxy on the same backend"
	anySize            = 1 << 30
)

func aims() []aim {
	return []aim{
		{metric: packetLast, to: anySize, of: proxyTables, atMost: 1},
		{metric: packetLast, to: anySize, of: itself, atMost: 1.07},
		{metric: packetMedian, to: anySize, of: proxyTables, atMost: 1},
		{metric: packetMedian, to: anySize, of: itself, atMost: 1.07},
		{metric: packetRandom, to: anySize, of: proxyTables, atMost: 1},
		{metric: packetMiss, to: anySize, of: itself, atMost: 1.02},
		{metric: packetPort, to: anySize, of: itself, atMost: 1.07},
		{metric: packetLarge, to: anySize, of: itself, atMost: 1.15},
		{metric: coldSeconds, to: anySize, of: proxyLegacy, contestant: agentLegacy, atMost: 0.3},
		{metric: coldSeconds, to: anySize, of: proxyNFT, contestant: agentNFT, atMost: 0.02},
		{metric: coldSeconds, to: anySize, of: proxyTables, atMost: 0.5},
		{metric: coldCPU, to: anySize, of: same, atMost: 0.3},
		{metric: restartSeconds, to: anySize, of: best, atMost: 0.2},
		{metric: restartChains, to: anySize, of: itself, atMost: 0},
		{metric: loneMS, to: 5_000, of: best, atMost: 0.2, tail: true},
		{metric: loneMS, from: 20_000, to: anySize, of: proxyLegacy, contestant: agentLegacy, atMost: 0.15, tail: true},
		{metric: loneMS, from: 20_000, to: anySize, of: proxyNFT, contestant: agentNFT, atMost: 0.02, tail: true},
		{metric: churn5MS, to: anySize, of: best, atMost: 0.15, tail: true},
		{metric: churn5CPU, to: anySize, of: best, atMost: 0.3},
		{metric: churn100MS, to: anySize, of: best, atMost: 0.15, tail: true},
		{metric: churn100CPU, to: anySize, of: best, atMost: 0.3},
		{metric: massMS, to: anySize, of: best, atMost: 0.2, tail: true},
		{metric: idleCPU, to: anySize, of: best, atMost: 0.1},
		{metric: idleChildren, to: anySize, of: itself, atMost: 0},
		{metric: residentMB, to: 1_000, of: best, atMost: 0.35},
		{metric: residentMB, from: 5_000, to: 5_000, of: best, atMost: 0.25},
		{metric: residentMB, from: 20_000, to: anySize, of: best, atMost: 0.2},
		{metric: kernelMB, from: 1_000, to: anySize, of: same, atMost: 0.2},
		{metric: rulesCount, from: 1_000, to: anySize, of: same, atMost: 0.35},
		{metric: chainsCount, from: 1_000, to: anySize, of: same, atMost: 0.35},
		{metric: flowsSeconds, to: anySize, of: best, atMost: 0.1},
		{metric: flowsCPU, to: anySize, of: best, atMost: 0.1},
		{metric: flowsLeft, to: anySize, of: itself, atMost: 0},
		{metric: ceilingServices, of: best, atLeast: 5},
		{metric: coldBytes, to: anySize, of: best, atMost: 1},
		{metric: loneBytes, to: anySize, of: best, atMost: 1},
	}
}

// judge compares what was measured with what is to be reached. What was not measured is left out.
func (r *Results) judge() []goal {
	var goals []goal
	for _, a := range aims() {
		for _, k := range r.order {
			ours := k.Contestant == agentNFT || k.Contestant == agentLegacy
			if k.Metric != a.metric || !ours || a.contestant != "" && a.contestant != k.Contestant || k.Services < a.from || k.Services > a.to {
				continue
			}
			for _, q := range quantiles(a) {
				value := quantile(r.samples[k], q)
				divisor := r.divisor(a, k, q)
				if math.IsNaN(divisor) {
					continue
				}
				g := goal{key: k, AtMost: a.atMost, AtLeast: a.atLeast, Of: a.of, Ratio: value / divisor}
				if q > 0.5 {
					g.Metric += ", p99"
				}
				if g.Reached = g.Ratio <= g.AtMost; a.atLeast > 0 {
					g.Reached = g.Ratio >= a.atLeast
				}
				goals = append(goals, g)
			}
		}
	}
	return goals
}

func quantiles(a aim) []float64 {
	if a.tail {
		return []float64{0.5, 0.99}
	}
	return []float64{0.5}
}

// divisor is what a value of ours is divided by; not a number when that was not measured.
func (r *Results) divisor(a aim, k key, q float64) float64 {
	of := []string{a.of}
	switch a.of {
	case itself:
		return 1
	case best:
		of = []string{proxyNFT, proxyLegacy, proxyTables}
	case same:
		of = []string{map[string]string{agentNFT: proxyNFT, agentLegacy: proxyLegacy}[k.Contestant]}
	}
	good := math.NaN()
	for _, name := range of {
		values := r.samples[key{name, k.Metric, k.Services}]
		if len(values) == 0 {
			continue
		}
		if value := quantile(values, q); math.IsNaN(good) || (value > good) == (a.atLeast > 0) {
			good = value
		}
	}
	return good
}
