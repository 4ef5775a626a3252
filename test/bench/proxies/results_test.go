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
	want := []goal{
		{key{agentNFT, restartChains, 5_000}, 1, 0, itself, false},
		{key{agentLegacy, loneMS, 20_000}, 0.1, 0.15, proxyLegacy, true},
		{key{agentLegacy, loneMS + ", p99", 20_000}, 0.3, 0.15, proxyLegacy, false},
		{key{agentNFT, residentMB, 5_000}, 0.3, 0.25, best, false},
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
