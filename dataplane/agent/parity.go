package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/health"
)

// parity are metrics of kube-proxy that tell whole writes from small ones, and nodes without local endpoints.
type parity struct {
	full, partial prometheus.Histogram
	noLocal       *prometheus.GaugeVec
}

func newParity() parity {
	duration := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)})
	}
	return parity{
		full: duration("kubeproxy_sync_full_proxy_rules_duration_seconds",
			"Time that one write or comparison of everything took, in seconds."),
		partial: duration("kubeproxy_sync_partial_proxy_rules_duration_seconds",
			"Time that one write of what had changed took, in seconds."),
		noLocal: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
			Help: "Service ports with traffic policy Local that have endpoints, and none on this node.",
		}, []string{"traffic_policy"}),
	}
}

func (p parity) collectors() []prometheus.Collector {
	return []prometheus.Collector{p.full, p.partial, p.noLocal}
}

// wrote is told how long a write took; not at all if there was none.
func (p parity) wrote(took time.Duration, full bool) {
	switch {
	case took == 0:
	case full:
		p.full.Observe(took.Seconds())
	default:
		p.partial.Observe(took.Seconds())
	}
}

// setNoLocal is told the numbers after each step.
func (p parity) setNoLocal(n noLocal) {
	p.noLocal.WithLabelValues("internal").Set(float64(n.internal))
	p.noLocal.WithLabelValues("external").Set(float64(n.external))
}

// noLocal counts Service ports that work, but not on this node.
type noLocal struct{ internal, external int }

// count adds a Service port, or with -1 takes it away.
func (n *noLocal) count(p *forwarding.ServicePort, sign int) {
	var internal, external bool
	for i := range p.Frontends {
		f := &p.Frontends[i]
		switch {
		case f.Otherwise != forwarding.Drop:
		case f.Kind == forwarding.ClusterIP:
			internal = internal || f.Routes[forwarding.Pod].Pool == forwarding.Nowhere
		default:
			external = external || f.Routes[forwarding.Remote].Pool == forwarding.Nowhere
		}
	}
	if internal {
		n.internal += sign
	}
	if external {
		n.external += sign
	}
}

// registerOthers adds what is counted elsewhere: answers to probes, and changes that arrive from the API.
func (m *metrics) registerOthers(status *health.Status, changes func() catalog.Changes) {
	m.registry.MustRegister(status.Collectors()...)
	for _, watched := range []struct {
		name, kind     string
		total, pending func(catalog.Changes) uint64
	}{
		{"service", "Services", func(c catalog.Changes) uint64 { return c.Services }, func(c catalog.Changes) uint64 { return c.PendingServices }},
		{"endpoint", "EndpointSlices", func(c catalog.Changes) uint64 { return c.Slices }, func(c catalog.Changes) uint64 { return c.PendingSlices }},
	} {
		prefix := "kubeproxy_sync_proxy_rules_" + watched.name + "_changes_"
		m.registry.MustRegister(
			prometheus.NewCounterFunc(
				prometheus.CounterOpts{Name: prefix + "total", Help: "Changes of " + watched.kind + " that have arrived."},
				func() float64 { return float64(watched.total(changes())) }),
			prometheus.NewGaugeFunc(
				prometheus.GaugeOpts{Name: prefix + "pending", Help: "Changes of " + watched.kind + " that wait for the next write."},
				func() float64 { return float64(watched.pending(changes())) }))
	}
}

// Metrics are those of an agent that has done nothing yet: their names, for whoever lists them.
func Metrics(version string) prometheus.Gatherer {
	m := newMetrics(version)
	m.registerOthers(health.NewStatus(time.Now), func() catalog.Changes { return catalog.Changes{} })
	m.setNoLocal(noLocal{})
	return m.registry
}
