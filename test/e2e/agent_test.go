package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// fetch gets a page of a server from a host.
func fetch(ctx context.Context, from *cluster.Host, url string) (status int, body string, err error) {
	status, _, body, err = fetchAll(ctx, from, url)
	return status, body, err
}

// fetchAll is fetch, with the headers of the answer.
func fetchAll(ctx context.Context, from *cluster.Host, url string) (status int, headers http.Header, body string, err error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return from.Dial(ctx, network, address)
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, "", fmt.Errorf("making the request: %w", err)
	}
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return 0, nil, "", fmt.Errorf("fetching: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(text), err
}

// metricsOf reads the metrics of the agent on a node.
func metricsOf(ctx context.Context, node string) func() (string, error) {
	return func() (string, error) {
		_, body, err := fetch(ctx, world.Node(node).Host, "http://127.0.0.1:10249/metrics")
		return body, err
	}
}

var _ = Describe("An agent", func() {
	It("answers load balancers and monitoring as kube-proxy does", func(ctx context.Context) {
		for _, path := range []string{"healthz", "livez"} {
			status, body, err := fetch(ctx, world.Outside(), "http://"+ipv4.on(world.Node(nft).Host, 10256)+"/"+path)
			Expect(err).NotTo(HaveOccurred())
			Expect(status).To(Equal(http.StatusOK), body)
			var answer map[string]any
			Expect(json.Unmarshal([]byte(body), &answer)).To(Succeed())
			Expect(answer).To(And(HaveKey("lastUpdated"), HaveKey("currentTime")))
		}
		_, mode, err := fetch(ctx, world.Node(nft).Host, "http://127.0.0.1:10249/proxyMode")
		Expect(err).NotTo(HaveOccurred())
		Expect(mode).To(Equal("iptables"))
		Expect(metricsOf(ctx, nft)()).To(And(
			MatchRegexp(`(?m)^kubeproxy_sync_proxy_rules_last_timestamp_seconds \S*[1-9]`),
			MatchRegexp(`(?m)^kubeproxy_sync_proxy_rules_duration_seconds_count(\{.*\})? [1-9]`),
			MatchRegexp(`(?m)^serviceproxy_build_info`)))
	})

	It("answers the kubelet of its node also where another proxy has the ports that both want", func(ctx context.Context) {
		node, err := world.AddNode(ctx, "shared")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) error { return forget(ctx, node) })
		for _, address := range []string{":10256", "127.0.0.1:10249"} {
			other, err := node.Listen(ctx, "tcp", address)
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(other.Close)
		}
		Expect(setup.StartAgent(ctx, node)).To(Succeed())
		for _, path := range []string{"livez", "readyz"} {
			Eventually(func() (int, error) {
				status, _, err := fetch(ctx, node.Host, "http://127.0.0.1:10266/"+path)
				return status, err
			}).Should(Equal(http.StatusOK))
		}
		Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)).Should(Equal("True/Synced"))
	})

	It("runs from a file, without an operator", func(ctx context.Context) {
		node, err := world.AddNode(ctx, "alone")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) error { return forget(ctx, node) })
		file := filepath.Join(GinkgoT().TempDir(), "config.yaml")
		write := func(mode string) {
			Expect(os.WriteFile(file, []byte(`
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: alone}
spec:
  nodeSelector: {}
  mode: `+mode+`
  masquerade: {policy: All}
`), 0o600)).To(Succeed())
		}
		spec, err := setup.AgentProcess(ctx, node)
		Expect(err).NotTo(HaveOccurred())
		spec.Args = append(spec.Args, "--config="+file)

		write("ebpf")
		_, err = node.RunProcess(ctx, spec)
		Expect(err).To(MatchError(ContainSubstring(`spec.mode: this agent does not know "ebpf"`)))

		write("iptables")
		_, err = node.Start(spec)
		Expect(err).NotTo(HaveOccurred())
		Eventually(asking(ctx, node.Host, address(ctx, "web", 80, ipv4))).Should(Succeed())
		answer(ctx, world.Outside(), "udp", ipv6.on(node.Host, 30053))
		Expect(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)()).To(BeElementOf("absent", "not observed"))
	})

	for _, backend := range []string{nft, legacy} {
		It("cleans up all that it made with "+backend+", and nothing else", func(ctx context.Context) {
			node, err := world.AddNode(ctx, "leaver")
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(func(ctx context.Context) error { return forget(ctx, node) })
			foreign := [][]string{
				{"-t", "mangle", "-N", "KUBE-IPTABLES-HINT"},
				{"-t", "nat", "-N", "SOMEONE"},
				{"-t", "nat", "-A", "SOMEONE", "-d", "192.0.2.1", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", "192.0.2.2"},
				{"-t", "nat", "-A", "PREROUTING", "-j", "SOMEONE"},
				{"-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "MASQUERADE"},
				{"-t", "filter", "-A", "FORWARD", "-s", "192.0.2.3", "-j", "DROP"},
			}
			for _, rule := range foreign {
				_, err := node.Run(ctx, "iptables-"+backend, rule...)
				Expect(err).NotTo(HaveOccurred())
			}
			before := rulesOf(ctx, node)
			spec, err := setup.AgentProcess(ctx, node)
			Expect(err).NotTo(HaveOccurred())
			agent, err := node.Start(spec)
			Expect(err).NotTo(HaveOccurred())
			Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)).Should(Equal("True/Synced"))
			Expect(proxyNode(ctx, node.Name).Status.Capabilities.IPTablesBackend).To(BeEquivalentTo(backend))
			Expect(rulesOf(ctx, node)).To(ContainSubstring("SPROXY-"))

			Expect(agent.Stop(ctx)).To(Succeed())
			Expect(rulesOf(ctx, node)).To(ContainSubstring("SPROXY-"), "an agent that stops leaves its rules")
			_, err = node.Run(ctx, setup.AgentProgram(), "cleanup")
			Expect(err).NotTo(HaveOccurred())
			Expect(rulesOf(ctx, node)).To(Equal(before))
			sets, err := node.Run(ctx, "ipset", "list", "-name")
			Expect(err).NotTo(HaveOccurred())
			Expect(sets).To(BeEmpty())
			_, err = node.Run(ctx, setup.AgentProgram(), "cleanup")
			Expect(err).NotTo(HaveOccurred(), "where nothing is left to clean up")
		})
	}
})

// What iptables-save prints that is not a rule: times, counters, and tables that hold nothing.
var (
	comments = regexp.MustCompile(`(?m)^#.*\n`)
	counters = regexp.MustCompile(`\[\d+:\d+\]`)
	unused   = regexp.MustCompile(`(?m)^\*\w+\n(:[A-Z]+ ACCEPT \n)*COMMIT\n`)
)

// rulesOf are all rules of a node, in both backends and families.
func rulesOf(ctx context.Context, node *cluster.Node) string {
	GinkgoHelper()
	var all string
	for _, program := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		rules, err := node.Run(ctx, program)
		Expect(err).NotTo(HaveOccurred())
		rules = counters.ReplaceAllString(comments.ReplaceAllString(rules, ""), "")
		all += program + "\n" + unused.ReplaceAllString(rules, "")
	}
	return all
}
