package churn

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// Metrics are what a process said of itself, by name.
type Metrics map[string]*dto.MetricFamily

// Scrape reads the Prometheus metrics that a process serves at a URL of its host.
func Scrape(ctx context.Context, h *cluster.Host, url string) (Metrics, error) {
	// Without compression, which takes more CPU than all else that a proxy does to answer.
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return h.Dial(ctx, network, address)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading metrics of %s: %w", url, err)
	}
	return families, nil
}

// Value is the value of a counter or gauge, summed over its labels; 0 when there is none.
func (m Metrics) Value(name string) float64 {
	total := 0.0
	for _, metric := range m[name].GetMetric() {
		total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
	}
	return total
}

// Histogram is the number of observations in a histogram and their sum, over all labels.
func (m Metrics) Histogram(name string) (count, sum float64) {
	for _, metric := range m[name].GetMetric() {
		count += float64(metric.GetHistogram().GetSampleCount())
		sum += metric.GetHistogram().GetSampleSum()
	}
	return count, sum
}

// Quantile is the bound of a histogram's bucket that at least a share q of the observations since an earlier scrape are
// below: an upper bound of the quantile, as exact as the buckets are. It is NaN when there were none.
func (m Metrics) Quantile(name string, q float64, earlier Metrics) float64 {
	before := map[float64]float64{}
	for _, metric := range earlier[name].GetMetric() {
		for _, bucket := range metric.GetHistogram().GetBucket() {
			before[bucket.GetUpperBound()] += float64(bucket.GetCumulativeCount())
		}
	}
	countBefore, _ := earlier.Histogram(name)
	count, _ := m.Histogram(name)
	for _, metric := range m[name].GetMetric() {
		for _, bucket := range metric.GetHistogram().GetBucket() {
			if float64(bucket.GetCumulativeCount())-before[bucket.GetUpperBound()] >= q*(count-countBefore) && count > countBefore {
				return bucket.GetUpperBound()
			}
		}
	}
	return math.NaN()
}
