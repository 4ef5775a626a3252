package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
)

// Results are what was measured: samples by contestant, metric and number of Services.
type Results struct {
	order   []key
	samples map[key][]float64
}

type key struct {
	Contestant string `json:"contestant"`
	Metric     string `json:"metric"`
	Services   int    `json:"services"`
}

func newResults() *Results { return &Results{samples: map[key][]float64{}} }

func (r *Results) add(contestant, metric string, services int, values ...float64) {
	k := key{contestant, metric, services}
	if _, known := r.samples[k]; !known {
		r.order = append(r.order, k)
	}
	r.samples[k] = append(r.samples[k], values...)
}

func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// get is the median of what was measured, and whether anything was.
func (r *Results) get(contestant, metric string, services int) (float64, bool) {
	values := r.samples[key{contestant, metric, services}]
	if len(values) == 0 {
		return 0, false
	}
	return median(values), true
}

// print prints a table of all that was measured, and one of what is to be reached.
func (r *Results) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\nSERVICES\tMEASURED\tCONTESTANT\tMEDIAN\tP25 TO P75\tP99\tSAMPLES\t\n")
	ordered := slices.Clone(r.order)
	place := map[string]int{}
	for _, k := range r.order {
		if _, known := place[k.Metric]; !known {
			place[k.Metric] = len(place)
		}
	}
	slices.SortStableFunc(ordered, func(a, b key) int {
		if a.Services != b.Services {
			return a.Services - b.Services
		}
		return place[a.Metric] - place[b.Metric]
	})
	for _, k := range ordered {
		v := r.samples[k]
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s to %s\t%s\t%d\t\n", k.Services, k.Metric, k.Contestant,
			number(median(v)), number(quantile(v, 0.25)), number(quantile(v, 0.75)), number(quantile(v, 0.99)), len(v))
	}
	fmt.Fprintf(table, "\n\t\t\t\t\t\t\t\nSERVICES\tTO BE REACHED\tCONTESTANT\tRATIO\tBOUND\tOF\t\t\n")
	for _, g := range r.judge() {
		verdict, bound := "reached", "at most "+number(g.AtMost)
		if g.AtLeast > 0 {
			bound = "at least " + number(g.AtLeast)
		}
		if !g.Reached {
			verdict = "MISSED"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", g.Services, g.Metric, g.Contestant, number(g.Ratio), bound, g.Of, verdict)
	}
	_ = table.Flush() // the reader is gone
}

// number shows a value with three digits that mean something.
func number(v float64) string {
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d", int64(v))
	}
	if v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// write writes everything as JSON.
func (r *Results) write(path string) error {
	type entry struct {
		key
		Median  float64   `json:"median"`
		P99     float64   `json:"p99"`
		Samples []float64 `json:"samples"`
	}
	var all []entry
	for _, k := range r.order {
		v := r.samples[k]
		all = append(all, entry{k, median(v), quantile(v, 0.99), v})
	}
	text, err := json.MarshalIndent(map[string]any{
		"go": runtime.Version(), "cpus": runtime.NumCPU(), "measured": all, "goals": r.judge(),
	}, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
