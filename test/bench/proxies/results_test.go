package main

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	r := newResults()
	r.add(agentNFT, residentMB, 5_000, 30, 20, 40)
	r.add(proxyNFT, residentMB, 5_000, 200)
	r.add(proxyTables, residentMB, 5_000, 100)
	r.add(agentNFT, restartChains, 5_000, 1)
	r.add(agentLegacy, loneMS, 20_000, 1, 1, 30)
	r.add(proxyLegacy, loneMS, 20_000, 10, 10, 100)
	r.add(proxyNFT, coldSeconds, 5_000, 1) // of nobody of ours
	r.add(agentNFT, ceilingServices, 0, 8_000)
	r.add(agentLegacy, ceilingServices, 0, 4_000)
	r.add(proxyTables, ceilingServices, 0, 1_000)
	r.add(proxyNFT, ceilingServices, 0, 500)
	want := []goal{
		{key: key{agentNFT, restartChains, 5_000}, Ratio: 1, Of: itself},
		{key: key{agentLegacy, loneMS, 20_000}, Ratio: 0.1, AtMost: 0.15, Of: proxyLegacy, Reached: true},
		{key: key{agentLegacy, loneMS + ", p99", 20_000}, Ratio: 0.3, AtMost: 0.15, Of: proxyLegacy},
		{key: key{agentNFT, residentMB, 5_000}, Ratio: 0.3, AtMost: 0.25, Of: best},
		{key: key{agentNFT, ceilingServices, 0}, Ratio: 8, AtLeast: 5, Of: best, Reached: true},
		{key: key{agentLegacy, ceilingServices, 0}, Ratio: 4, AtLeast: 5, Of: best},
	}
	if diff := cmp.Diff(want, r.judge(), cmp.AllowUnexported(goal{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestChiSquareP(t *testing.T) {
	// From tables of the distribution.
	for _, test := range []struct {
		chi     float64
		freedom int
		p       float64
	}{{18.307, 10, 0.05}, {124.342, 100, 0.05}, {1105.9, 999, 0.01}, {99.334, 100, 0.5}} {
		if got := chiSquareP(test.chi, test.freedom); math.Abs(got-test.p) > 0.003 {
			t.Errorf("%v of %d degrees: %v, want %v", test.chi, test.freedom, got, test.p)
		}
	}
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		ok   bool
	}{
		"nothing":      {nil, true},
		"full":         {[]string{"-size=full"}, true},
		"numbers":      {[]string{"-services=100,200"}, true},
		"another size": {[]string{"-size=huge"}, false},
		"endpoints":    {[]string{"-endpoints=10"}, true},
		"no endpoints": {[]string{"-endpoints=0"}, false},
		"no number":    {[]string{"-services=many"}, false},
		"too many":     {[]string{"-services=70000"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(test.args); (err == nil) != test.ok {
				t.Error(err)
			}
		})
	}
}
