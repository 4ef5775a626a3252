package plugin

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

var _ = Describe("How people hand nodes over", func() {
	It("is from kube-proxy and back, and no connection fails", func(ctx context.Context) {
		pods, err := world.RunPods(ctx, web("web-one", "one"), web("web-three", "three"))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) error { return cluster.DeletePods(ctx, pods...) })
		proxies := startKubelets()
		kubectl(ctx, "apply", "--filename=testdata/handover.yaml")
		DeferCleanup(leaveKubeProxy, proxies)
		Expect(world.WaitForEndpoints(ctx, "default", "web", 2)).To(Succeed())
		kubectl(ctx, "-n", "kube-system", "rollout", "status", "daemonset/kube-proxy", "--timeout=120s")
		streams := map[string]*traffic.Stream{}
		for _, name := range []string{"one", "two"} {
			streams[name] = traffic.Open(context.WithoutCancel(ctx), world.Node(name).Host, "tcp", "10.96.0.80:80", 20*time.Millisecond)
			DeferCleanup(streams[name].Stop)
		}
		undisturbed := func() {
			GinkgoHelper()
			for name, stream := range streams {
				tally := stream.Take()
				Expect(tally.Opened).To(BeNumerically(">", 0), name)
				Expect(tally.Failed).To(BeZero(), name+": "+tally.String())
			}
		}

		Expect(ask(ctx, "handover", "handover", "--from", "kube-proxy").ErrOut).To(
			ContainSubstring("pool handover selects no node; name the nodes that are to be handed over"))
		there := []string{"handover", "handover", "one", "two", "--from", "kube-proxy", "--cleanup=false"}
		Expect(well(ctx, append(there, "--dry-run=client")...)).To(And(
			HavePrefix("once\n  make daemonset/kube-proxy avoid nodes with label example.com/kube-proxy=off"),
			ContainSubstring("node two\n  label it example.com/service-proxy=true kubernetes.io/os=linux, so that pool handover selects it\n")))
		Expect(proxies.count()).To(Equal(3))
		Expect(ask(ctx, there...)).To(And(HaveField("Status", 2),
			HaveField("ErrOut", ContainSubstring("nobody is there to be asked; give --yes"))))

		said := well(ctx, append(there, "--yes")...)
		Expect(said).To(And(HaveSuffix("done\n"), ContainSubstring("undo: kubectl -n kube-system rollout undo daemonset/kube-proxy"),
			ContainSubstring("undo: kubectl label node one example.com/service-proxy-"),
			ContainSubstring("undo: kubectl label node two example.com/kube-proxy-")))
		Expect(proxies.count()).To(Equal(1))
		undisturbed()
		for _, name := range []string{"one", "two"} {
			_, err := world.Node(name).Run(ctx, setup.AgentProgram(), "cleanup", "--kube-proxy")
			Expect(err).NotTo(HaveOccurred())
		}
		undisturbed()
		Expect(well(ctx, append(there, "--yes")...)).To(MatchRegexp(`so that kube-proxy leaves it +already so`), "nothing is done twice")
		Expect(well(ctx, "status")).To(HavePrefix("All is well: 1 pool with 2 nodes, 2 in sync; 1 node has no config.\n"))

		Expect(well(ctx, "handover", "handover", "--to", "kube-proxy", "--settle=1s", "--yes")).To(And(
			HaveSuffix("done\n"), ContainSubstring("take label example.com/service-proxy from it, so that pool handover gives it back")))
		Expect(proxies.count()).To(Equal(3))
		undisturbed()
		for _, name := range []string{"one", "two"} {
			Expect(kubectl(ctx, "get", "node", name, "--output=jsonpath={.metadata.labels}")).To(And(
				ContainSubstring("kubernetes.io/os"), Not(ContainSubstring("example.com"))))
			rules, err := world.Node(name).Run(ctx, "iptables-nft-save")
			Expect(err).NotTo(HaveOccurred())
			Expect(rules).NotTo(ContainSubstring("SPROXY"))
		}
	})

	It("stops at a step that fails, and says how to undo those before", func(ctx context.Context) {
		proxies := startKubelets()
		kubectl(ctx, "apply", "--filename=testdata/handover.yaml")
		DeferCleanup(leaveKubeProxy, proxies)
		kubectl(ctx, "-n", "kube-system", "patch", "daemonset", "kube-proxy", "--type=merge", `--patch=
			{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{
			  "nodeSelectorTerms":[{"matchExpressions":[
			    {"key":"example.com/kube-proxy","operator":"NotIn","values":["off"]}]}]}}}}}}}`)
		kubectl(ctx, "-n", "kube-system", "rollout", "status", "daemonset/kube-proxy", "--timeout=120s")
		// Another pool has the node.
		pool(ctx)
		a := ask(ctx, "handover", "handover", "one", "--from", "kube-proxy", "--yes", "--timeout=3s")
		Expect(a.Status).To(Equal(2))
		Expect(a.ErrOut).To(And(ContainSubstring("wait until our rules are there"),
			ContainSubstring("pool default has it: kubectl serviceproxy why one")))
		Expect(a.Out).To(HaveSuffix("Stopped. To undo what was done, run in this order:\n" +
			"  kubectl label node one example.com/service-proxy-\n"))
		Expect(proxies.count()).To(Equal(3), "kube-proxy leaves no node before our rules are there")
		kubectl(ctx, "label", "node", "one", "example.com/service-proxy-")
	})
})

func web(name, node string) cluster.PodSpec {
	return cluster.PodSpec{Name: name, Node: node, Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
}

// leaveKubeProxy takes away what testdata/handover.yaml brought, and what kube-proxy left on the nodes.
func leaveKubeProxy(ctx context.Context, proxies *kubelets) {
	GinkgoHelper()
	kubectl(ctx, "delete", "--ignore-not-found", "--wait=false", "--filename=testdata/handover.yaml")
	Eventually(proxies.count).Should(BeZero())
	for _, node := range world.Nodes() {
		kubectl(ctx, "label", "node", node.Name, "example.com/service-proxy-", "example.com/kube-proxy-")
		_, err := node.Run(ctx, setup.AgentProgram(), "cleanup", "--kube-proxy")
		Expect(err).NotTo(HaveOccurred())
	}
	Eventually(func() string { return kubectl(ctx, "-n", "kube-system", "get", "pods", "--output=name") }).Should(BeEmpty())
}
