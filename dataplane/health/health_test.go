package health_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/serviceproxy/service-proxy-operator/dataplane/health"
)

func TestAnswers(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	type result struct{ Healthz, Livez int }
	up, starting, stuck, leaving := result{200, 200}, result{503, 200}, result{503, 503}, result{503, 200}

	for name, test := range map[string]struct {
		story   func(*health.Status)
		now     time.Duration
		want    result
		healthy bool
	}{
		"starting":       {func(*health.Status) {}, 0, starting, false},
		"synced":         {func(s *health.Status) { s.Synced(start) }, time.Hour, up, true},
		"a change waits": {func(s *health.Status) { s.Synced(start); s.Queued(start) }, 30 * time.Second, up, true},
		"a change waits too long": {func(s *health.Status) {
			s.Synced(start)
			s.Queued(start)
			s.Queued(start.Add(time.Minute))
		}, time.Minute, stuck, false},
		"it was followed":     {func(s *health.Status) { s.Queued(start); s.Synced(start.Add(time.Hour)) }, 2 * time.Hour, up, true},
		"the node is leaving": {func(s *health.Status) { s.Synced(start); s.SetEligible(false) }, 0, leaving, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := start
			status := health.NewStatus(func() time.Time { return now })
			test.story(status)
			now = start.Add(test.now)
			healthz, livez := httptest.NewRecorder(), httptest.NewRecorder()
			status.Healthz(healthz, httptest.NewRequest(http.MethodGet, "/healthz", nil))
			status.Livez(livez, httptest.NewRequest(http.MethodGet, "/livez", nil))
			if diff := cmp.Diff(test.want, result{healthz.Code, livez.Code}); diff != "" {
				t.Errorf("codes (-want +got):\n%s", diff)
			}
			if got := status.Healthy(); got != test.healthy {
				t.Errorf("Healthy() = %t, want %t", got, test.healthy)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	status := health.NewStatus(func() time.Time { return start.Add(time.Second) })
	status.Synced(start)
	family := map[string]any{"lastUpdated": "2030-01-01T00:00:00Z", "healthy": true}
	livez := map[string]any{
		"lastUpdated": "2030-01-01T00:00:00Z", "currentTime": "2030-01-01T00:00:01Z", "healthy": true,
		"status": map[string]any{"IPv4": family, "IPv6": family},
	}
	healthz := maps.Clone(livez)
	healthz["nodeEligible"] = true

	for path, test := range map[string]struct {
		handler http.HandlerFunc
		want    map[string]any
	}{
		"/healthz": {status.Healthz, healthz},
		"/livez":   {status.Livez, livez},
	} {
		t.Run(path, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			test.handler(recorder, httptest.NewRequest(http.MethodGet, path, nil))
			var got map[string]any
			if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCollectors(t *testing.T) {
	status := health.NewStatus(time.Now)
	registry := prometheus.NewRegistry()
	registry.MustRegister(status.Collectors()...)
	ask := func(handler http.HandlerFunc) {
		handler(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
	ask(status.Healthz)
	status.Synced(time.Now())
	ask(status.Healthz)
	ask(status.Healthz)
	ask(status.Livez)

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()+" "+m.GetLabel()[0].GetName()+"="+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"kubeproxy_proxy_healthz_total code=503": 1,
		"kubeproxy_proxy_healthz_total code=200": 2,
		"kubeproxy_proxy_livez_total code=200":   1,
		"kubeproxy_proxy_livez_total code=503":   0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}
