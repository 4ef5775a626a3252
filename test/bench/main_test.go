package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// root is the folder of the repository.
const root = "../.."

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "service-proxy-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Programs elsewhere on this machine that use iptables must not make these wait, nor the other way round.
	if err := os.Setenv("XTABLES_LOCKFILE", filepath.Join(dir, "xtables.lock")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	log.SetLogger(klog.Background()) // of the clients of test clusters
	code := m.Run()
	if err := results.finish(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "reporting results:", err)
		return 1
	}
	return code
}

// result is a measured value.
type result struct {
	Benchmark string  `json:"benchmark"`
	Metric    string  `json:"metric"`
	Value     float64 `json:"value"`
	// Runs is how many runs Value is the median of.
	Runs int `json:"runs"`
}

// collector keeps what the benchmarks of this process measured.
type collector struct {
	mu     sync.Mutex
	order  []result
	values map[result][]float64 // by benchmark and metric
}

var results = &collector{values: map[result][]float64{}}

// report gives a value to the output of go test, and to the table and the file at the end.
func report(b *testing.B, metric string, value float64) {
	b.ReportMetric(value, metric)
	results.add(b.Name(), metric, value)
}

func (c *collector) add(benchmark, metric string, value float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := result{Benchmark: strings.TrimPrefix(benchmark, "Benchmark"), Metric: metric}
	if c.values[key] == nil {
		c.order = append(c.order, key)
	}
	c.values[key] = append(c.values[key], value)
}

// finish prints a table, and writes the same to .cache/bench/results.json.
func (c *collector) finish(w io.Writer) error {
	if len(c.order) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\nBENCHMARK\tMETRIC\tVALUE\t\n")
	all := make([]result, len(c.order))
	last := ""
	for i, r := range c.order {
		r = c.median(r)
		all[i] = r
		name := r.Benchmark
		if name == last {
			name = ""
		}
		last = r.Benchmark
		fmt.Fprintf(table, "%s\t%s\t%s\t\n", name, r.Metric, number(r.Value))
	}
	ratios := c.ratios()
	fmt.Fprintf(table, "\t\t\t\nOURS / KUBE-PROXY'S\tMETRIC\tRATIO\t\n")
	for _, r := range ratios {
		fmt.Fprintf(table, "%s\t%s\t%s\t\n", r.Benchmark, r.Metric, number(r.Value))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	document, err := json.MarshalIndent(map[string]any{
		"go": runtime.Version(), "cpus": runtime.NumCPU(), "results": all, "ratios": ratios,
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(root, ".cache", "bench", "results.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(document, '\n'), 0o644)
}

func (c *collector) median(r result) result {
	values := slices.Sorted(slices.Values(c.values[r]))
	r.Value, r.Runs = values[len(values)/2], len(values)
	return r
}

// ratios divides what was measured of the engine by what was measured of kube-proxy: the value of WHAT/BACKEND/SIZE by
// that of KubeProxy/BACKEND/WHAT/SIZE.
func (c *collector) ratios() []result {
	var found []result
	for _, r := range c.order {
		part := strings.Split(r.Benchmark, "/")
		if len(part) != 4 || part[0] != "KubeProxy" {
			continue
		}
		ours := result{Benchmark: strings.Join([]string{part[2], part[1], part[3]}, "/"), Metric: r.Metric}
		if len(c.values[ours]) == 0 {
			continue
		}
		ours = c.median(ours)
		ours.Value /= c.median(r).Value
		found = append(found, ours)
	}
	return found
}

// number shows whole numbers as such and others with three digits that mean something.
func number(v float64) string {
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d", int64(v))
	}
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// backends runs a benchmark with each backend of iptables.
func backends(b *testing.B, f func(*testing.B, xtables.Backend)) {
	for _, backend := range []xtables.Backend{xtables.NFT, xtables.Legacy} {
		b.Run(string(backend), func(b *testing.B) { f(b, backend) })
	}
}
