package bundle

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Every alert is about metrics that exist, and has a part in docs/alerts.md to turn to. That the operator's metrics exist
// is tried with the operator itself.
func TestAlerts(t *testing.T) {
	rules := &monitoringv1.PrometheusRule{}
	for _, object := range build(t, "config/prometheus") {
		if object.GetKind() == "PrometheusRule" {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, rules); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	metrics, help := read("dataplane/agent/metrics.go"), read("docs/alerts.md")
	name := regexp.MustCompile(`\b(kubeproxy|serviceproxy)_\w+`)
	alerts := 0
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			alerts++
			if !strings.Contains(help, "\n## "+rule.Alert+"\n") {
				t.Errorf("docs/alerts.md has no part %s", rule.Alert)
			}
			if url := rule.Annotations["runbook_url"]; !strings.HasSuffix(url, "/docs/alerts.md#"+strings.ToLower(rule.Alert)) {
				t.Errorf("%s sends people to %s", rule.Alert, url)
			}
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" {
				t.Errorf("%s has no severity or no summary", rule.Alert)
			}
			for _, metric := range name.FindAllString(rule.Expr.String(), -1) {
				if !strings.Contains(metrics, `"`+metric+`"`) {
					t.Errorf("%s is about %s, which no agent has", rule.Alert, metric)
				}
			}
		}
	}
	if parts := strings.Count(help, "\n## "); parts != alerts {
		t.Errorf("docs/alerts.md has %d parts for %d alerts", parts, alerts)
	}
}
