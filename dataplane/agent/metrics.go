package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are those of the agent. A name that starts with kubeproxy_ means what it means in kube-proxy, so that
// dashboards keep working; both families are written in one sync, so there is no label ip_family.
type metrics struct {
	registry *prometheus.Registry
	parity

	syncDuration       prometheus.Histogram
	lastSync           prometheus.Gauge
	lastQueued         prometheus.Gauge
	programming        prometheus.Histogram
	rules              prometheus.Gauge
	services           prometheus.Gauge
	endpoints          prometheus.Gauge
	chainsWritten      prometheus.Counter
	bytesWritten       prometheus.Counter
	messagesSent       prometheus.Counter
	repairs            prometheus.Counter
	failures           prometheus.Counter
	flowsEnded         prometheus.Counter
	flowsDuration      prometheus.Histogram
	disputedAddresses  prometheus.Gauge
	assignmentAccepted prometheus.Gauge
	dataPathBroken     prometheus.Gauge
	drift              prometheus.Gauge
	runningFromMemory  prometheus.Gauge
	heldBack           *prometheus.GaugeVec
}

func newMetrics(version string) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		parity:   newParity(),
		syncDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_sync_proxy_rules_duration_seconds",
			Help: "Time that one write to the kernel took, in seconds.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
		lastSync: gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds",
			"When the kernel was last written or found to be right, in Unix seconds."),
		lastQueued: gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
			"When a change last arrived, in Unix seconds."),
		programming: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_network_programming_duration_seconds",
			Help: "Time from a change of endpoints in the cluster to the kernel of this node following it, in seconds. " +
				"The start is known to the second only.", Buckets: prometheus.ExponentialBuckets(0.25, 2, 12)}),
		rules:         gauge("serviceproxy_rules", "Rules that the kernel holds, in all tables and families."),
		services:      gauge("serviceproxy_service_ports", "Service ports programmed, in all families."),
		endpoints:     gauge("serviceproxy_endpoints", "Endpoints that Service ports lead to, in all families."),
		chainsWritten: counter("serviceproxy_chains_written_total", "Chains written to the kernel or removed from it."),
		bytesWritten:  counter("serviceproxy_bytes_written_total", "Bytes given to iptables-restore."),
		messagesSent:  counter("serviceproxy_netlink_messages_total", "Netlink messages about virtual servers and sets sent to the kernel."),
		repairs:       counter("serviceproxy_drift_repairs_total", "Rules, virtual servers, set entries and routes that someone else had changed and that were put right."),
		failures:      counter("serviceproxy_apply_failures_total", "Writes to the kernel that failed."),
		flowsEnded: counter("kubeproxy_conntrack_reconciler_deleted_entries_total",
			"UDP flows that were ended because they led to no endpoint of their Service any more."),
		flowsDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_conntrack_reconciler_sync_duration_seconds",
			Help: "Time that looking for such flows took, in seconds.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
		disputedAddresses: gauge("serviceproxy_disputed_addresses",
			"Claims to an address and port that another Service holds."),
		assignmentAccepted: gauge("serviceproxy_assignment_accepted",
			"1 when the node's settings can be carried out here, 0 when the settings before them go on running."),
		dataPathBroken: gauge("serviceproxy_data_path_broken",
			"Probed addresses of Services that do not answer from this node although every endpoint does when asked directly."),
		runningFromMemory: gauge("serviceproxy_running_from_memory",
			"1 while Services are programmed from what was known before the agent started, because the API server has not listed them since."),
		heldBack: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "serviceproxy_held_back",
			Help: "Services and endpoints that were lost suddenly and are kept as they were for a while (spec.sync.holdBack)."}, []string{"kind"}),
		drift: gauge("serviceproxy_drift",
			"Rules, virtual servers, sets, routes and kernel parameters that someone else has changed and that are left so, because spec.sync.drift is ReportOnly."),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "serviceproxy_build_info",
		Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.setHeldBack(nil)
	m.registry.MustRegister(m.collectors()...)
	m.registry.MustRegister(m.syncDuration, m.lastSync, m.lastQueued, m.programming, m.rules, m.services, m.endpoints,
		m.chainsWritten, m.bytesWritten, m.messagesSent, m.repairs, m.failures, m.flowsEnded, m.flowsDuration, m.disputedAddresses, m.assignmentAccepted, m.dataPathBroken, m.drift,
		m.runningFromMemory, m.heldBack, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
