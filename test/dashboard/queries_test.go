package dashboard

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/promtool"
)

var _ = Describe("What live programs serve", func() {
	It("answers every query of the dashboard", func(ctx context.Context) {
		queries := dashboardQueries()
		Expect(len(queries)).To(BeNumerically(">", 30))
		Expect(answered(ctx, queries)).To(Succeed())
	})

	// A query may give something without its metric, such as those that end in "or vector(0)".
	It("has every metric of the dashboard and of the alerts", func(ctx context.Context) {
		names := metricsIn(append(alertExpressions(), dashboardQueries()...))
		Expect(names).To(ContainElements("serviceproxy_drift_repairs_total", "leader_election_master_status", "serviceproxy_operator_config_nodes"))
		Expect(answered(ctx, names)).To(Succeed())
	})

	It("does not answer queries of metrics that nobody serves", func(ctx context.Context) {
		Expect(answered(ctx, []string{"serviceproxy_no_such_thing"})).NotTo(Succeed())
	})
})

// dashboardQueries lists the queries of the panels, with the variables that Grafana would put in.
func dashboardQueries() []string {
	GinkgoHelper()
	var dashboard struct {
		Panels []struct {
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	text, err := os.ReadFile(filepath.Join(root, "config/grafana/dashboard.json"))
	Expect(err).NotTo(HaveOccurred())
	Expect(json.Unmarshal(text, &dashboard)).To(Succeed())
	var queries []string
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, strings.NewReplacer("$__rate_interval", "5m", "$node", node).Replace(target.Expr))
		}
	}
	Expect(queries).NotTo(ContainElement(ContainSubstring("$")), "a variable that nobody has put in")
	return queries
}

// alertExpressions lists the expressions of the alerts.
func alertExpressions() []string {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(root, "config/prometheus/rules.yaml"))
	Expect(err).NotTo(HaveOccurred())
	rules := &monitoringv1.PrometheusRule{}
	Expect(yaml.UnmarshalStrict(text, rules)).To(Succeed())
	var expressions []string
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			expressions = append(expressions, rule.Expr.String())
		}
	}
	return expressions
}

// metricsIn lists the names of metrics in expressions: words with an underscore that are no functions and no labels.
func metricsIn(expressions []string) []string {
	matchers, word := regexp.MustCompile(`\{[^}]*\}`), regexp.MustCompile(`\b[a-z]+_\w+\b\s*\(?`)
	var names []string
	for _, expression := range expressions {
		for _, found := range word.FindAllString(matchers.ReplaceAllString(expression, ""), -1) {
			if !strings.HasSuffix(found, "(") {
				names = append(names, strings.TrimSpace(found))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// answered has promtool evaluate queries over what the programs serve, and says which give nothing.
func answered(ctx context.Context, queries []string) error {
	type sample struct {
		Labels string  `json:"labels"`
		Value  float64 `json:"value"`
	}
	type expression struct {
		Expr     string   `json:"expr"`
		EvalTime string   `json:"eval_time"`
		Samples  []sample `json:"exp_samples"`
	}
	var expressions []expression
	for _, query := range queries {
		expressions = append(expressions, expression{
			Expr: "count(" + query + ") > bool 0", EvalTime: "10m", Samples: []sample{{Labels: "{}", Value: 1}},
		})
	}
	served, err := series(ctx)
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(map[string]any{"tests": []any{map[string]any{
		"interval": "1m", "input_series": served, "promql_expr_test": expressions,
	}}})
	if err != nil {
		return fmt.Errorf("writing the test for promtool: %w", err)
	}
	path := filepath.Join(GinkgoT().TempDir(), "queries.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("writing the test for promtool: %w", err)
	}
	return promtool.Run(ctx, root, "test", "rules", path)
}

// input is a series in the words of promtool.
type input struct {
	Series string `json:"series"`
	Values string `json:"values"`
}

// series are what Prometheus would have collected: everything that the programs serve, each ten times the same.
func series(ctx context.Context) ([]input, error) {
	operator, err := scrape(ctx, world.ControlPlane(), "127.0.0.1:8080")
	if err != nil {
		return nil, fmt.Errorf("asking the operator: %w", err)
	}
	agent, err := scrape(ctx, world.Node(node).Host, "127.0.0.1:10249")
	if err != nil {
		return nil, fmt.Errorf("asking the agent: %w", err)
	}
	return append(
		collected(operator, model.LabelSet{"job": "service-proxy-operator-metrics", "instance": "operator:8080"}),
		collected(agent, model.LabelSet{"job": "service-proxy-agent", "instance": node})...), nil
}

// collected are samples with the labels of a target.
func collected(samples model.Vector, target model.LabelSet) []input {
	var all []input
	for _, s := range samples {
		labels := model.LabelSet(s.Metric).Merge(target)
		var pairs []string
		for name, value := range labels {
			if name != model.MetricNameLabel {
				pairs = append(pairs, fmt.Sprintf("%s=%q", name, value))
			}
		}
		slices.Sort(pairs)
		all = append(all, input{
			Series: string(labels[model.MetricNameLabel]) + "{" + strings.Join(pairs, ",") + "}",
			Values: strconv.FormatFloat(float64(s.Value), 'f', -1, 64) + "x10",
		})
	}
	slices.SortFunc(all, func(a, b input) int { return cmp.Compare(a.Series, b.Series) })
	return all
}

// scrape reads what a program on a host serves.
func scrape(ctx context.Context, from *cluster.Host, address string) (model.Vector, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return from.Dial(ctx, network, address)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	var list []*dto.MetricFamily
	for _, family := range families {
		list = append(list, family)
	}
	return expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.Now()}, list...)
}
