package health

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the counters of answers by status code: kubeproxy_proxy_healthz_total and kubeproxy_proxy_livez_total,
// under kube-proxy's names. They count whether they are registered or not.
func (s *Status) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.healthzs, s.livezs}
}

func newAnswerCounter(path string) *prometheus.CounterVec {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_proxy_" + path + "_total",
		Help: "Answers to requests for /" + path + ", by HTTP status code.",
	}, []string{"code"})
	for _, code := range []string{"200", "503"} {
		answers.WithLabelValues(code)
	}
	return answers
}
