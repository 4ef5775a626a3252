package plugin

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/render"
)

// rendered is a Service of which everything is known before it is there.
const rendered = `
apiVersion: v1
kind: Service
metadata: {name: rendered, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.200.1
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, nodePort: 30780}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: rendered-1, namespace: default, labels: {kubernetes.io/service-name: rendered}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.1.201]}, {addresses: [10.244.2.202]}]
`

var _ = Describe("The rules that are not there yet", func() {
	BeforeEach(func(ctx context.Context) {
		pool(ctx)
		path := file(rendered)
		kubectl(ctx, "apply", "--server-side", "-f", path)
		DeferCleanup(kubectl, "delete", "-f", path, "--ignore-not-found")
	})

	It("are printed from files alone, as the kernel gets to hold them", func(ctx context.Context) {
		Eventually(func(g Gomega, ctx context.Context) {
			objects := kubectl(ctx, "get", "nodes,services,endpointslices,servicecidrs,serviceproxyconfigs,deployments", "-A", "-o", "yaml")
			a := ask(ctx, "render", "one", "-f", file(objects), "-o", "json", "--kubeconfig=/dev/null")
			g.Expect(a.Status).To(BeZero(), a.ErrOut)
			for _, script := range decode[render.Rendering](a.Out).Scripts {
				if save, is := strings.CutSuffix(script.Program, "tables-restore --noflush"); is {
					g.Expect(ours(script.Lines)).To(ConsistOf(inKernel(ctx, save)), "the rules of %stables", save)
				}
			}
			g.Expect(a.Out).To(ContainSubstring("default/rendered:http node port"))
		}).WithContext(ctx).Should(Succeed())

		objects := file(kubectl(ctx, "get", "nodes,services,endpointslices,servicecidrs,serviceproxyconfigs", "-A", "-o", "yaml"))
		Expect(well(ctx, "render", "one", "-f", objects)).To(And(HavePrefix("# node one in mode iptables\n"),
			ContainSubstring("\n# ipset restore\ncreate SPROXY-4-"), ContainSubstring("\n-A PREROUTING ")))
		Expect(ask(ctx, "render", "-f", objects).ErrOut).To(ContainSubstring("the files hold 3 Nodes; name one, such as one"))
		Expect(ask(ctx, "render", "on", "-f", objects).ErrOut).To(ContainSubstring(`there is no node "on"; did you mean "one"?`))
		Expect(ask(ctx, "render", "one", "-f", file(rendered)).ErrOut).To(ContainSubstring(`there is no node "one"`))
		wrong := ask(ctx, "render", "one", "-f", objects, "-f", file(strings.Replace(rendered, "clusterIP:", "clusterAddress:", 1)))
		Expect(wrong).To(Equal(answer{ErrOut: "error: reading Service rendered: strict decoding error: unknown field \"spec.clusterAddress\"\n", Status: 2}))
		out := ask(ctx, "render", "one", "-f", objects, "-f", file(strings.Replace(rendered, "10.244.1.201", "127.0.0.1", 1)))
		Expect(out.Status).To(Equal(1), "not everything is programmed")
		Expect(out.Out).To(ContainSubstring("\n# left out: EndpointSlice default/rendered-1: endpoints[0].addresses: 127.0.0.1 cannot be reached"))
	})

	It("are compared with those that there are, and nothing is written", func(ctx context.Context) {
		before := kubectl(ctx, "get", "services,endpointslices,serviceproxyconfigs", "-A", "-o", "yaml")
		Expect(ask(ctx, "diff", "-f", file(rendered))).To(Equal(answer{}))

		changed := file(strings.NewReplacer("10.244.1.201", "10.244.1.203", "port: 80,", "port: 81,").Replace(rendered) + "---\n" +
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n")
		a := ask(ctx, "diff", "-f", changed)
		Expect(a.Status).To(Equal(1))
		Expect(a.ErrOut).To(Equal("passed over, since no rule follows from them: ConfigMap\n"))
		Expect(a.Out).To(And(
			MatchRegexp(`\n-.*--to-destination 10.244.1.201:8080\n`), MatchRegexp(`\n\+.*--to-destination 10.244.1.203:8080\n`),
			MatchRegexp(`\n-.*-d 10.96.200.1/32 .*--dport 80 .*\n`), MatchRegexp(`\n\+.*-d 10.96.200.1/32 .*--dport 81 .*\n`),
			ContainSubstring("LIVE/one"), Not(ContainSubstring("LIVE/two"))), "one node of the pool stands for all")
		Expect(ask(ctx, "diff", "two", "-f", changed).Out).To(And(ContainSubstring("LIVE/two"), Not(ContainSubstring("LIVE/one"))))

		ipvs := file("apiVersion: serviceproxy.io/v1alpha1\nkind: ServiceProxyConfig\nmetadata: {name: default}\nspec: {nodeSelector: {}, mode: IPVS}\n")
		a = ask(ctx, "diff", "-f", ipvs)
		Expect(a.Status).To(Equal(1))
		Expect(a.Out).To(And(ContainSubstring("-# node one in mode iptables\n+# node one in mode IPVS\n"),
			ContainSubstring("+-a -t 10.96.200.1:80 -r 10.244.1.201:8080 -m -w 1\n"), ContainSubstring("+add SPROXYVS-4-POD 10.96.200.1,tcp:80\n")))

		By("refusing what the API server would refuse")
		a = ask(ctx, "diff", "-f", file(strings.Replace(rendered, "10.96.200.1", "10.97.200.1", 1)))
		Expect(a.Status).To(Equal(2))
		Expect(a.ErrOut).To(ContainSubstring("asking what Service rendered would become: "))
		Expect(kubectl(ctx, "get", "services,endpointslices,serviceproxyconfigs", "-A", "-o", "yaml")).To(Equal(before))

		By("applying it")
		kubectl(ctx, "apply", "--server-side", "-f", changed)
		DeferCleanup(kubectl, "delete", "configmap", "other", "--ignore-not-found")
		Expect(ask(ctx, "diff", "-f", changed).Status).To(BeZero())
		Eventually(func(ctx context.Context) []string { return inKernel(ctx, "ip") }).WithContext(ctx).Should(ContainElement(
			ContainSubstring("--to-destination 10.244.1.203:8080")))
	})
})

// file is a file that holds a text.
func file(text string) string {
	GinkgoHelper()
	path := filepath.Join(GinkgoT().TempDir(), "objects.yaml")
	Expect(os.WriteFile(path, []byte(text), 0o600)).To(Succeed())
	return path
}

// ours are the rules among lines of iptables-save that are in chains of ours or lead to them.
func ours(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		return !strings.HasPrefix(line, "-A ") || !strings.Contains(line, "SPROXY-")
	})
}

// inKernel are our rules that the kernel of node one holds in a family, "ip" or "ip6".
func inKernel(ctx context.Context, family string) []string {
	GinkgoHelper()
	rules, err := world.Node("one").Run(ctx, family+"tables-nft-save")
	Expect(err).NotTo(HaveOccurred())
	return ours(strings.Split(rules, "\n"))
}
