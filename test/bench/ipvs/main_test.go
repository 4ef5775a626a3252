package ipvs

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		return m.Run() // There is nothing here but benchmarks: no need for a cluster.
	}
	log.SetLogger(klog.Background()) // of the clients of the cluster
	return cluster.Main(m, cluster.Options{IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}})
}

// side is who was measured.
type side int

const (
	ours side = iota
	kubeProxys
)

func (s side) String() string { return [...]string{"ours", "kube-proxy"}[s] }

// metric is something that is measured, of both sides.
type metric struct{ what, unit string }

// results are values of one size, each with those of all rounds.
type results map[metric]*[2][]float64

func (r results) add(s side, what, unit string, value float64) {
	m := metric{what, unit}
	if r[m] == nil {
		r[m] = &[2][]float64{}
	}
	r[m][s] = append(r[m][s], value)
}

// count adds what strace has seen.
func (r results) count(s side, what string, t trace) {
	r.add(s, what, "netlink messages", float64(t.messages))
	r.add(s, what, "netlink sends", float64(t.sends))
	r.add(s, what, "programs started", float64(t.programs))
}

// report gives medians to the output of go test, and prints both sides with the ratio.
func (r results) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // of both sides together: says nothing
	metrics := slices.SortedFunc(maps.Keys(r), func(x, y metric) int {
		return slices.Compare([]string{x.what, x.unit}, []string{y.what, y.unit})
	})
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\n%s\t\tOURS\tKUBE-PROXY\tOURS / KUBE-PROXY'S\t\n", b.Name())
	for _, m := range metrics {
		cells := []string{"", "", ""}
		for _, s := range []side{ours, kubeProxys} {
			if len(r[m][s]) > 0 {
				cells[s] = number(median(r[m][s]))
			}
		}
		if cells[ours] != "" && cells[kubeProxys] != "" {
			cells[2] = number(median(r[m][ours]) / median(r[m][kubeProxys]))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t\n", m.what, m.unit, strings.Join(cells, "\t"))
	}
	_ = table.Flush()
}

func median(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// number has three digits that mean something.
func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
