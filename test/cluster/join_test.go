package cluster_test

import (
	"os"
	"os/exec"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
	"github.com/serviceproxy/service-proxy-operator/test/kernel"
)

var _ = Describe("A package of tests that needs IPVS", Serial, func() {
	It("gets nodes and pods on a kernel that has it, and leaves nothing", func(ctx SpecContext) {
		before := traces()
		tests := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestJoined$", "-test.v")
		tests.Env = append(os.Environ(), roleVariable+"="+joinerRole)
		output, err := tests.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(output))
		Expect(string(output)).To(ContainSubstring("--- PASS: TestJoined"))
		Expect(traces()).To(Equal(before))
	}, SpecTimeout(startTimeout))
})

// TestJoined is what such a package holds.
func TestJoined(t *testing.T) {
	if os.Getenv(roleVariable) != joinerRole {
		t.Log("run by a spec, in a copy of this binary")
		return
	}
	g, ctx := NewWithT(t), t.Context()
	g.Expect(kernel.HasIPVS()).To(BeTrue())
	c, err := cluster.Join(ctx, cluster.Options{Nodes: []string{"a", "b"}})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(c.Stop()).To(Succeed()) })

	pods, err := c.RunPods(ctx, web("one", "a"), web("two", "b"))
	g.Expect(err).NotTo(HaveOccurred())
	for _, address := range pods[1].Addresses() {
		reply, err := pods[0].Ask(ctx, "tcp", httpOf(address))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(reply.Pod).To(Equal("two"))
	}
	g.Expect(c.Client().Create(ctx, webService())).To(Succeed())
	g.Expect(c.WaitForEndpoints(ctx, "default", "web", 2)).To(Succeed())

	// From the machine, and from a node.
	g.Expect(c.Kubectl(ctx, "get", "nodes", "--output=name")).To(Equal("node/a\nnode/b\n"))
	cache, err := binaries.Open()
	g.Expect(err).NotTo(HaveOccurred())
	kubectl, err := cache.Find(binaries.Kubectl)
	g.Expect(err).NotTo(HaveOccurred())
	limited, err := c.ServiceAccountKubeconfig(ctx, "default", "default")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(c.Node("a").Run(ctx, kubectl, "--kubeconfig="+limited, "auth", "whoami")).
		To(ContainSubstring("system:serviceaccount:default:default"))
	g.Expect(c.StopAPIServer(ctx)).To(MatchError(ContainSubstring("not ours")))
}
