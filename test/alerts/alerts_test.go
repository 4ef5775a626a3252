// Package alerts tries the alerts of config/prometheus by Prometheus' own rule tests, which are in testdata.
package alerts

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"

	"github.com/serviceproxy/service-proxy-operator/test/promtool"
)

const root = "../.."

// Every alert has a part in docs/alerts.md to turn to, and is about metrics that are in docs/metrics.md. That those of
// libraries exist as well is tried with live programs.
func TestEveryAlertIsDocumented(t *testing.T) {
	help, metrics := read(t, filepath.Join(root, "docs/alerts.md")), read(t, filepath.Join(root, "docs/metrics.md"))
	name := regexp.MustCompile(`\b(kubeproxy|serviceproxy)_\w+`)
	alerts := alerts(t)
	for _, alert := range alerts {
		if !strings.Contains(help, "\n## "+alert.Alert+"\n") {
			t.Errorf("docs/alerts.md has no part %s", alert.Alert)
		}
		if url := alert.Annotations["runbook_url"]; !strings.HasSuffix(url, "/docs/alerts.md#"+strings.ToLower(alert.Alert)) {
			t.Errorf("%s sends people to %s", alert.Alert, url)
		}
		if alert.Labels["severity"] == "" || alert.Annotations["summary"] == "" {
			t.Errorf("%s has no severity or no summary", alert.Alert)
		}
		for _, metric := range name.FindAllString(alert.Expr.String(), -1) {
			if !strings.Contains(metrics, "`"+strings.TrimSuffix(metric, "_bucket")+"`") {
				t.Errorf("%s is about %s, which docs/metrics.md does not know", alert.Alert, metric)
			}
		}
	}
	if parts := strings.Count(help, "\n## "); parts != len(alerts) {
		t.Errorf("docs/alerts.md has %d parts for %d alerts", parts, len(alerts))
	}
}

// Every alert fires when it should, and is silent when it should be.
func TestAlertsFire(t *testing.T) {
	dir := t.TempDir()
	spec, err := yaml.Marshal(rules(t).Spec)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "rules.yaml"), spec)
	args := []string{"test", "rules"}
	tested := map[string]bool{}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d rule tests found: %v", len(files), err)
	}
	for _, file := range files {
		text := read(t, file)
		path := filepath.Join(dir, filepath.Base(file))
		write(t, path, []byte(text))
		args = append(args, path)
		for _, alert := range firing(t, file, text) {
			tested[alert] = true
		}
	}
	if err := promtool.Run(t.Context(), root, args...); err != nil {
		t.Error(err)
	}
	for _, alert := range alerts(t) {
		if !tested[alert.Alert] {
			t.Errorf("no test has %s fire", alert.Alert)
		}
	}
}

// firing lists the alerts that the tests in a file expect.
func firing(t *testing.T, file, text string) []string {
	t.Helper()
	var content struct {
		Tests []struct {
			Alerts []struct {
				Name     string `json:"alertname"`
				Expected []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal([]byte(text), &content); err != nil {
		t.Fatal(fmt.Errorf("reading %s: %w", file, err))
	}
	var names []string
	for _, test := range content.Tests {
		for _, alert := range test.Alerts {
			if len(alert.Expected) > 0 {
				names = append(names, alert.Name)
			}
		}
	}
	return names
}

func alerts(t *testing.T) []monitoringv1.Rule {
	t.Helper()
	var all []monitoringv1.Rule
	for _, group := range rules(t).Spec.Groups {
		all = slices.Concat(all, group.Rules)
	}
	return all
}

func rules(t *testing.T) *monitoringv1.PrometheusRule {
	t.Helper()
	rules := &monitoringv1.PrometheusRule{}
	if err := yaml.UnmarshalStrict([]byte(read(t, filepath.Join(root, "config/prometheus/rules.yaml"))), rules); err != nil {
		t.Fatal(err)
	}
	return rules
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
