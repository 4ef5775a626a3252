package e2e

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

var _ = Describe("Services", func() {
	It("are programmed with the backend that the node uses", func(ctx context.Context) {
		for _, name := range []string{nft, legacy} {
			Expect(proxyNode(ctx, name).Status.Capabilities.IPTablesBackend).To(BeEquivalentTo(name))
			rules, err := world.Node(name).Run(ctx, "iptables-"+name+"-save", "-t", "nat")
			Expect(err).NotTo(HaveOccurred())
			Expect(rules).To(ContainSubstring("-j SPROXY-SERVICES"))
		}
	})

	for _, node := range []string{nft, legacy} {
		for _, f := range []family{ipv4, ipv6} {
			Context(fmt.Sprintf("on node %s, %s", node, f), func() { describeServices(node, f) })
		}
	}
})

// refusal is how long it may take until a client knows that nobody listens: less than the second after which TCP would
// send its first packet again.
const refusal = 900 * time.Millisecond

func describeServices(node string, f family) {
	var here *cluster.Node
	var client, outside *cluster.Host
	BeforeEach(func() {
		here, client, outside = world.Node(node), pods["client-"+node].Host, world.Outside()
	})

	It("answer at their cluster IPs, to pods and to the node", func(ctx context.Context) {
		for _, from := range []*cluster.Host{client, here.Host} {
			answer(ctx, from, "tcp", address(ctx, "web", 80, f))
			answer(ctx, from, "tcp", address(ctx, "web", 81, f))
			answer(ctx, from, "udp", address(ctx, "web", 53, f))
		}
	})

	It("answer at node ports, to the world, to pods and to the node", func(ctx context.Context) {
		for _, from := range []*cluster.Host{outside, client, here.Host} {
			answer(ctx, from, "tcp", f.on(here.Host, 30080))
			answer(ctx, from, "tcp", f.on(here.Host, 30081))
			answer(ctx, from, "udp", f.on(here.Host, 30053))
		}
	})

	It("spread connections over all their pods", func(ctx context.Context) {
		seen := map[string]int{}
		for range 100 { // the chance to miss one of four is 10^-12
			seen[answer(ctx, client, "tcp", address(ctx, "web", 80, f)).Pod]++
		}
		Expect(seen).To(HaveLen(4))
	})

	It("show pods the address of a client that is a pod, wherever they run", func(ctx context.Context) {
		for range 20 {
			Expect(answer(ctx, client, "tcp", address(ctx, "web", 80, f)).Client.Addr()).To(Equal(f.of(client)))
			Expect(answer(ctx, client, "udp", address(ctx, "web", 53, f)).Client.Addr()).To(Equal(f.of(client)))
		}
	})

	It("masquerade clients from outside at node ports, so that replies come back through the node", func(ctx context.Context) {
		for range 20 {
			Expect(answer(ctx, outside, "tcp", f.on(here.Host, 30080)).Client.Addr()).NotTo(Equal(f.of(outside)))
		}
	})

	It("keep the address of clients from outside, and to pods of the node, with externalTrafficPolicy: Local", func(ctx context.Context) {
		for range 20 {
			reply := answer(ctx, outside, "tcp", f.on(here.Host, 30090))
			Expect(reply.Client.Addr()).To(Equal(f.of(outside)))
			Expect(pods[reply.Pod].Node).To(BeIdenticalTo(here))
		}
	})

	It("refuse what has no endpoint, and ports that they do not have", func(ctx context.Context) {
		refused := func(from *cluster.Host, to string) {
			GinkgoHelper()
			start := time.Now()
			_, err := from.Ask(ctx, "tcp", to)
			Expect(err).To(MatchError(syscall.ECONNREFUSED))
			Expect(time.Since(start)).To(BeNumerically("<", refusal))
		}
		for _, from := range []*cluster.Host{client, here.Host} {
			refused(from, address(ctx, "empty", 80, f))
			refused(from, address(ctx, "web", 82, f))
			refused(from, f.on(here.Host, 30099))
		}
		refused(outside, f.on(here.Host, 30099))
	})

	It("leave headless and ExternalName Services alone", func(ctx context.Context) {
		save := map[family]string{ipv4: "iptables", ipv6: "ip6tables"}[f] + "-" + node + "-save"
		rules, err := here.Run(ctx, save)
		Expect(err).NotTo(HaveOccurred())
		Expect(rules).To(ContainSubstring("default/web:http"))
		Expect(rules).NotTo(Or(ContainSubstring("headless"), ContainSubstring("elsewhere"),
			ContainSubstring("dport 8099"), ContainSubstring("dport 8098")))
	})

	It("keep a client's pod with sessionAffinity: ClientIP", func(ctx context.Context) {
		applyForNow(ctx, `
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  ipFamilyPolicy: RequireDualStack
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
`)
		to := address(ctx, "sticky", 80, f)
		Eventually(asking(ctx, client, to)).Should(Succeed())
		first := answer(ctx, client, "tcp", to).Pod
		for range 20 {
			Expect(answer(ctx, client, "tcp", to).Pod).To(Equal(first))
		}
	})
}

var _ = Describe("A pod that calls itself through its Service", func() {
	for _, f := range []family{ipv4, ipv6} {
		It("gets an answer, as the node, over "+string(f), func(ctx context.Context) {
			solo := pods["solo"]
			for range 5 {
				reply := answer(ctx, solo.Host, "tcp", address(ctx, "solo", 80, f))
				Expect(reply.Pod).To(Equal("solo"))
				Expect(reply.Client.Addr()).NotTo(Equal(f.of(solo.Host)))
			}
		})
	}
})

var _ = Describe("Node ports", func() {
	It("answer processes of the node at 127.0.0.1, and never at ::1", func(ctx context.Context) {
		for _, node := range world.Nodes() {
			answer(ctx, node.Host, "tcp", net.JoinHostPort("127.0.0.1", "30080"))
			refused(ctx, node.Host, net.JoinHostPort("::1", "30080"))
		}
	})
})
