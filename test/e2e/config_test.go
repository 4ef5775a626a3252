package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// patchForNow patches the spec of config default until the end of the spec, and waits until nodes run it.
func patchForNow(ctx context.Context, patch, undo string) {
	GinkgoHelper()
	change := func(ctx context.Context, patch string) {
		GinkgoHelper()
		kubectl(ctx, "patch", "spc", "default", "--type=merge", "--patch="+patch)
		Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
	}
	DeferCleanup(change, undo)
	change(ctx, patch)
}

var _ = Describe("A config", func() {
	It("says who has which node, and every node what it runs", func(ctx context.Context) {
		Expect(configReady(ctx, "edge")()).To(Equal("True/NoMatchingNodes"))
		// A node of another spec may have left a moment ago.
		Eventually(func() int32 { return *config(ctx, "default").Status.Nodes.Assigned }).Should(BeEquivalentTo(2))
		c := config(ctx, "default")
		Expect(*c.Status.Nodes.Ready).To(BeEquivalentTo(2))
		for _, name := range []string{nft, legacy} {
			n := proxyNode(ctx, name)
			Expect(n.Spec.ConfigRef.Name).To(Equal("default"))
			Expect(n.Status.AppliedRevision).To(Equal(c.Status.UpdateRevision))
			Expect(n.Status.Mode).To(Equal(v1alpha1.ModeIPTables))
			Expect(n.OwnerReferences).To(HaveLen(1))
			Expect(n.OwnerReferences[0].Kind).To(Equal("Node"))
		}
		Expect(kubectl(ctx, "get", "spc,spn")).To(And(
			MatchRegexp(`NAME +MODE +PRIORITY +NODES +UPDATED +IN-SYNC +READY +REASON`),
			MatchRegexp(`serviceproxyconfig\S+/default +iptables +2 +2 +2 +True +AllNodesReady`),
			MatchRegexp(`NAME +CONFIG +MODE +READY +REASON +SERVICES +ENDPOINTS +LAST-SYNC`),
			MatchRegexp(`serviceproxynode\S+/nft +default +iptables +True +Synced`)))
	})

	It("takes effect while it is changed, and disturbs nobody", func(ctx context.Context) {
		crowd := gather(ctx)
		patchForNow(ctx, `{"spec":{"masquerade":{"policy":"All"}}}`, `{"spec":{"masquerade":null}}`)
		for _, name := range []string{nft, legacy} {
			from := pods["client-"+name].Host
			for range 10 {
				Expect(answer(ctx, from, "tcp", address(ctx, "web", 80, ipv4)).Client.Addr()).NotTo(Equal(from.IPv4))
			}
		}
		crowd.isUndisturbed()
	})

	It("of higher priority takes nodes over, and gives them back when it goes", func(ctx context.Context) {
		crowd := gather(ctx)
		applyForNow(ctx, `
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: special}
spec:
  nodeSelector: {matchLabels: {kubernetes.io/hostname: nft}}
  priority: 10
  mode: iptables
  nodePorts: {localhost: Disabled}
  rollout: {minReadySeconds: 0, nodeChangeDelaySeconds: 0}
`)
		Eventually(configReady(ctx, "special")).Should(Equal("True/AllNodesReady"))
		Expect(proxyNode(ctx, nft).Spec.ConfigRef.Name).To(Equal("special"))
		Expect(proxyNode(ctx, legacy).Spec.ConfigRef.Name).To(Equal("default"))
		Eventually(func() int32 { return *config(ctx, "default").Status.Nodes.Overridden }).Should(BeEquivalentTo(1))

		kubectl(ctx, "patch", "spc", "special", "--type=merge", `--patch={"spec":{"priority":0}}`)
		Eventually(func() string {
			c := config(ctx, "special")
			return condition(c.Status.Conditions, v1alpha1.ConditionConflicted, c.Generation)
		}).Should(Equal("True/EqualPriorityOverlap"))
		Expect(proxyNode(ctx, nft).Spec.ConfigRef.Name).To(Equal("special"), "the incumbent keeps the node")

		kubectl(ctx, "delete", "spc", "special")
		Eventually(func() string { return proxyNode(ctx, nft).Spec.ConfigRef.Name }).Should(Equal("default"))
		Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
		crowd.isUndisturbed()
	})

	It("leaves what nodes run when it is deleted, and they go on following endpoints", func(ctx context.Context) {
		crowd := gather(ctx)
		manifest := kubectl(ctx, "get", "spc", "default", "-o", `jsonpath={"apiVersion: serviceproxy.io/v1alpha1\nkind: ServiceProxyConfig\nmetadata: {name: default}\nspec: "}{.spec}`)
		DeferCleanup(func(ctx context.Context) {
			apply(ctx, manifest)
			Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
		})
		kubectl(ctx, "delete", "spc", "default")
		guest, err := world.RunPod(ctx, webPod("orphan", nft))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(guest.Delete)
		for _, name := range []string{nft, legacy} {
			Eventually(func() string {
				return answer(ctx, pods["client-"+name].Host, "tcp", address(ctx, "web", 80, ipv6)).Pod
			}).WithPolling(time.Millisecond).Should(Equal("orphan"))
		}
		Expect(guest.Terminate(ctx)).To(Succeed())
		areLeft(ctx, guest)
		crowd.isUndisturbed("orphan")
	})
})

var _ = Describe("A full comparison with the kernel", func() {
	It("repairs what somebody else removed, counts it, and breaks nothing that is held", func(ctx context.Context) {
		const undo = `{"spec":{"sync":null}}`
		patchForNow(ctx, `{"spec":{"sync":{"fullIntervalSeconds":10}}}`, undo)
		held, err := traffic.Hold(ctx, pods["client-nft"].Host, address(ctx, "web", 80, ipv4), 4)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(held.Close)
		for _, name := range []string{nft, legacy} {
			for _, chain := range []string{"PREROUTING", "SPROXY-SERVICES"} {
				_, err := world.Node(name).Run(ctx, "iptables-"+name, "--wait", "-t", "nat", "-F", chain)
				Expect(err).NotTo(HaveOccurred())
			}
		}
		for _, name := range []string{nft, legacy} {
			Eventually(asking(ctx, pods["client-"+name].Host, address(ctx, "web", 80, ipv4))).
				WithTimeout(time.Minute).Should(Succeed())
			Eventually(metricsOf(ctx, name)).Should(MatchRegexp(`(?m)^serviceproxy_drift_repairs_total [1-9]`))
		}
		Expect(held.Broken()).To(Succeed())

		By("saying so in status, with the next change that is written at once")
		kubectl(ctx, "patch", "spc", "default", "--type=merge", "--patch="+undo)
		Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
		for _, name := range []string{nft, legacy} {
			Expect(*proxyNode(ctx, name).Status.Sync.Repairs).To(BeNumerically(">", 0))
		}
	})
})

var _ = Describe("A node that comes and goes", func() {
	It("gets its assignment, serves, and takes its ServiceProxyNode with it", func(ctx context.Context) {
		node, err := world.AddNode(ctx, "visitor")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) error { return forget(ctx, node) })
		Expect(setup.StartAgent(ctx, node)).To(Succeed())
		Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)).Should(Equal("True/Synced"))
		answer(ctx, node.Host, "tcp", address(ctx, "web", 80, ipv4))
		answer(ctx, world.Outside(), "tcp", ipv6.on(node.Host, 30080))
		Eventually(func() int32 { return *config(ctx, "default").Status.Nodes.Ready }).Should(BeEquivalentTo(3))

		Expect(world.RemoveNode(ctx, node.Name)).To(Succeed())
		// The garbage collector looks for new kinds every 30 seconds.
		Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)).WithTimeout(time.Minute).Should(Equal("absent"))
		Eventually(func() string {
			return fmt.Sprint(*config(ctx, "default").Status.Nodes.Assigned, configReady(ctx, "default")())
		}).Should(Equal("2True/AllNodesReady"))
	})
})

// forget removes a node that a spec added, if that has not happened, and waits until nobody speaks of it.
func forget(ctx context.Context, node *cluster.Node) error {
	if world.Node(node.Name) == nil {
		return nil
	}
	if err := world.RemoveNode(ctx, node.Name); err != nil {
		return err
	}
	n := &v1alpha1.ServiceProxyNode{}
	n.Name = node.Name
	return client.IgnoreNotFound(world.Client().Delete(ctx, n))
}
