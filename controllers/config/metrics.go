package config

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// Metrics are those of the Reconciler, as a collector to register. The numbers about configs and nodes are those of the
// latest pass; an operator that stands by has made none. Labels are names of configs and words of the API, never nodes.
type Metrics struct {
	build        prometheus.Gauge
	planDuration prometheus.Histogram
	assignments  *prometheus.CounterVec
	reports      *prometheus.CounterVec

	conditions, poolNodes, nodes, halted, guard *prometheus.Desc

	latest atomic.Pointer[picture]
}

// picture is what a pass saw and decided.
type picture struct {
	statuses map[string]v1alpha1.ServiceProxyConfigStatus
	// modes counts nodes by the mode that they run.
	modes   map[string]int
	guarded bool
}

// The values of label result.
const (
	resultWritten = "written"
	resultFailed  = "failed"
)

// modeNone is the mode of a node that runs nothing of ours.
const modeNone = "none"

// NewMetrics returns the metrics of an operator of a version, with nothing else to tell yet.
func NewMetrics(version string) *Metrics {
	results := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"result"})
		for _, result := range []string{resultWritten, resultFailed} {
			v.WithLabelValues(result)
		}
		return v
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "serviceproxy_operator_build_info",
		Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	return &Metrics{
		build: build,
		planDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "serviceproxy_operator_plan_duration_seconds",
			Help: "Time that deciding what every node is to run took, in seconds.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}),
		assignments: results("serviceproxy_operator_assignments_total",
			"Writes of the spec of a ServiceProxyNode, by what became of them."),
		reports: results("serviceproxy_operator_config_status_writes_total",
			"Writes of the status of a ServiceProxyConfig, by what became of them."),
		conditions: desc("serviceproxy_operator_config_condition",
			"1 for the status (True, False or Unknown) that a condition of a ServiceProxyConfig has.", "config", "condition", "status"),
		poolNodes: desc("serviceproxy_operator_config_nodes",
			"Nodes of a ServiceProxyConfig by state, as in its status.nodes: a node is in several.", "config", "state"),
		nodes:  desc("serviceproxy_operator_nodes", "Nodes by the mode that their agents report, none where nothing runs.", "mode"),
		halted: desc("serviceproxy_operator_rollouts_halted", "Rollouts that were stopped because too many nodes failed."),
		guard: desc("serviceproxy_operator_guard_enforced",
			"1 while the policy that keeps every agent to its own node is in force, 0 while no node is given anything because it is not."),
	}
}

// planned is told of a pass: what it decided, and how long that took. It does nothing on nil.
func (m *Metrics) planned(took time.Duration, world *planner.World, plan *planner.Plan) {
	if m == nil {
		return
	}
	m.planDuration.Observe(took.Seconds())
	m.latest.Store(&picture{statuses: plan.Statuses, modes: countModes(world), guarded: world.Hold == ""})
}

// countModes counts the nodes of a world by what they run.
func countModes(world *planner.World) map[string]int {
	running := map[string]v1alpha1.Mode{}
	for i := range world.Objects {
		running[world.Objects[i].Name] = world.Objects[i].Status.Mode
	}
	modes := map[string]int{string(v1alpha1.ModeIPTables): 0, string(v1alpha1.ModeIPVS): 0, modeNone: 0}
	for i := range world.Nodes {
		mode := string(running[world.Nodes[i].Name])
		if mode == "" {
			mode = modeNone
		}
		modes[mode]++
	}
	return modes
}

// assigned and reported are told of a write of a spec or a status. They do nothing on nil.
func (m *Metrics) assigned(err error) {
	if m != nil {
		m.assignments.WithLabelValues(result(err)).Inc()
	}
}

func (m *Metrics) reported(err error) {
	if m != nil {
		m.reports.WithLabelValues(result(err)).Inc()
	}
}

func result(err error) string {
	if err != nil {
		return resultFailed
	}
	return resultWritten
}

// Describe is part of prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.build, m.planDuration, m.assignments, m.reports} {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.conditions, m.poolNodes, m.nodes, m.halted, m.guard} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.build, m.planDuration, m.assignments, m.reports} {
		c.Collect(ch)
	}
	now := m.latest.Load()
	if now == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	halted := 0
	for config, status := range now.statuses {
		for _, condition := range conditionTypes() {
			gauge(m.conditions, 1, config, condition, conditionStatus(status.Conditions, condition))
		}
		for state, n := range nodeCounts(status.Nodes) {
			gauge(m.poolNodes, float64(n), config, state)
		}
		if status.Halted != nil {
			halted++
		}
	}
	for mode, n := range now.modes {
		gauge(m.nodes, float64(n), mode)
	}
	gauge(m.halted, float64(halted))
	gauge(m.guard, map[bool]float64{true: 1}[now.guarded])
}

// conditionTypes are the conditions of a ServiceProxyConfig.
func conditionTypes() []string {
	return []string{v1alpha1.ConditionReady, v1alpha1.ConditionAccepted, v1alpha1.ConditionConflicted,
		v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}
}

// conditionStatus is the status of a condition. Those that are there only while they are true are False otherwise.
func conditionStatus(conditions []metav1.Condition, kind string) string {
	if c := meta.FindStatusCondition(conditions, kind); c != nil {
		return string(c.Status)
	}
	if kind == v1alpha1.ConditionReconciling || kind == v1alpha1.ConditionStalled {
		return string(metav1.ConditionFalse)
	}
	return string(metav1.ConditionUnknown)
}

// nodeCounts are the counts of a status by the names that they have there.
func nodeCounts(n *v1alpha1.NodeCounts) map[string]int32 {
	if n == nil {
		n = &v1alpha1.NodeCounts{}
	}
	counts := map[string]*int32{
		"matched": n.Matched, "overridden": n.Overridden, "conflicted": n.Conflicted, "assigned": n.Assigned,
		"updated": n.Updated, "ready": n.Ready, "unavailable": n.Unavailable, "failed": n.Failed,
	}
	values := make(map[string]int32, len(counts))
	for state, n := range counts {
		if n != nil {
			values[state] = *n
		} else {
			values[state] = 0
		}
	}
	return values
}

// Sample is metrics that have every name and every word that a label can have: for whoever lists them.
func Sample() *Metrics {
	m := NewMetrics("")
	m.planned(0, &planner.World{}, &planner.Plan{Statuses: map[string]v1alpha1.ServiceProxyConfigStatus{"": {
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
	}}})
	return m
}
