package handover

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// crowd is everybody who talks to Service web: streams of new connections and datagrams, and held connections, from pods and
// from outside, through every node.
type crowd struct {
	streams []*traffic.Stream
	held    traffic.Connections
}

func gather(ctx context.Context) *crowd {
	GinkgoHelper()
	c := &crowd{}
	DeferCleanup(c.leave)
	// It outlives the node that called it: a spec's context ends with the spec.
	ctx = context.WithoutCancel(ctx)
	const every = 10 * time.Millisecond
	for _, node := range world.Nodes() {
		nodePort := fmt.Sprintf("%s:30080", node.IPv4)
		for from, to := range map[*cluster.Host]string{clients[node.Name].Host: "10.96.0.80:80", node.Host: "10.96.0.80:80", world.Outside(): nodePort} {
			c.streams = append(c.streams, traffic.Open(ctx, from, "tcp", to, every))
			held, err := traffic.Hold(ctx, from, to, 6)
			Expect(err).NotTo(HaveOccurred())
			c.held = append(c.held, held...)
		}
		c.streams = append(c.streams, traffic.Open(ctx, clients[node.Name].Host, "udp", "10.96.0.80:53", every))
	}
	return c
}

func (c *crowd) leave() {
	for _, s := range c.streams {
		s.Stop()
	}
	c.held.Close()
}

// isUndisturbed expects that since the last time nothing new failed, and that nothing held broke ever.
func (c *crowd) isUndisturbed(after string) {
	GinkgoHelper()
	tallies := make([]traffic.Tally, 0, len(c.streams))
	for _, s := range c.streams {
		tallies = append(tallies, s.Take())
	}
	tally := traffic.Sum(tallies...)
	GinkgoWriter.Printf("%s: %s; held: %d\n", after, tally, len(c.held))
	Expect(tally.Opened).To(BeNumerically(">", 0))
	Expect(tally.Failed).To(BeZero(), tally.String())
	Expect(c.held.Broken()).To(Succeed())
}

// noForeignProxy is condition ForeignProxy of a node that has none.
const noForeignProxy = "False/" + v1alpha1.ReasonNoForeignRules

// takeOver hands a node over from kube-proxy.
func (w way) takeOver(ctx context.Context, node *cluster.Node, kubeProxy *cluster.Process, crowd *crowd) {
	GinkgoHelper()
	kubectl(ctx, "label", "node", node.Name, "example.com/service-proxy=true")
	Eventually(condition(ctx, node.Name, v1alpha1.ConditionReady)).Should(HavePrefix("True/" + v1alpha1.ReasonSynced))
	Expect(condition(ctx, node.Name, v1alpha1.ConditionForeignProxy)()).To(And(
		HavePrefix("True/"+v1alpha1.ReasonKubeProxyRulesFound), ContainSubstring(w.mode), ContainSubstring("it runs")))
	crowd.isUndisturbed("both program " + node.Name)

	_, err := node.Run(ctx, filepath.Join(root, "bin", "agent"), "cleanup", "--kube-proxy")
	Expect(err).To(MatchError(ContainSubstring("kube-proxy runs on this node")))
	Expect(kubeProxy.Stop(ctx)).To(Succeed())
	crowd.isUndisturbed("kube-proxy has ended on " + node.Name)
	_, err = node.Run(ctx, filepath.Join(root, "bin", "agent"), "cleanup", "--kube-proxy")
	Expect(err).NotTo(HaveOccurred())
	Expect(w.rules(ctx, node)).NotTo(MatchRegexp("KUBE-(SERVICES|SVC|SEP|MARK|POST|PROXY)|kube-proxy"))
	Eventually(condition(ctx, node.Name, v1alpha1.ConditionForeignProxy)).Should(HavePrefix(noForeignProxy))
	crowd.isUndisturbed("kube-proxy's rules are gone from " + node.Name)
}

// giveBack hands a node back to kube-proxy.
func (w way) giveBack(ctx context.Context, node *cluster.Node, crowd *crowd) *cluster.Process {
	GinkgoHelper()
	kubeProxy := w.start(ctx, node)
	crowd.isUndisturbed("kube-proxy is back on " + node.Name)
	kubectl(ctx, "label", "node", node.Name, "example.com/service-proxy-")
	Eventually(condition(ctx, node.Name, v1alpha1.ConditionReady)).Should(HavePrefix("True/" + v1alpha1.ReasonReleased))
	rules, err := node.Run(ctx, "iptables-"+w.backend+"-save")
	Expect(err).NotTo(HaveOccurred())
	Expect(rules).NotTo(ContainSubstring("SPROXY"))
	// The ports that both want are left to kube-proxy, which tries for them every five seconds.
	Eventually(proxyMode(ctx, node)).Should(Equal(w.mode))
	crowd.isUndisturbed(node.Name + " is released")
	return kubeProxy
}

var _ = Describe("A node is handed over from kube-proxy and back, under load", func() {
	for _, w := range []way{{"iptables", "nft"}, {"iptables", "legacy"}, {"nftables", "nft"}} {
		It("in mode "+w.String(), func(ctx context.Context) {
			running := map[string]*cluster.Process{}
			for _, node := range world.Nodes() {
				running[node.Name] = w.start(ctx, node)
			}
			crowd := gather(ctx)
			for _, node := range world.Nodes() {
				w.takeOver(ctx, node, running[node.Name], crowd)
			}
			for _, node := range world.Nodes() {
				running[node.Name] = w.giveBack(ctx, node, crowd)
			}
			crowd.leave()
			// As it was before kube-proxy, for the next one.
			for _, node := range world.Nodes() {
				Expect(running[node.Name].Stop(ctx)).To(Succeed())
				_, err := node.Run(ctx, filepath.Join(root, "bin", "agent"), "cleanup", "--kube-proxy")
				Expect(err).NotTo(HaveOccurred())
				Expect(setup.Agent(node.Name).Stop(ctx)).To(Succeed())
				Expect(setup.StartAgent(ctx, node)).To(Succeed())
			}
		})
	}
})
