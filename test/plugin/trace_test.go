package plugin

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
	"github.com/serviceproxy/service-proxy-operator/dataplane/trace"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

var _ = Describe("A trace", func() {
	var pods []*cluster.Pod
	BeforeEach(func(ctx context.Context) {
		pool(ctx)
		serveExec(ctx)
		labels := map[string]string{"app": "traced"}
		ports := []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
		var err error
		pods, err = world.RunPods(ctx,
			cluster.PodSpec{Name: "traced-one", Node: "one", Labels: labels, Ports: ports},
			cluster.PodSpec{Name: "traced-two", Node: "two", Labels: labels, Ports: ports},
			cluster.PodSpec{Name: "asking", Node: "three"})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) { Expect(cluster.DeletePods(ctx, pods...)).To(Succeed()) })
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "traced"},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeNodePort, Selector: labels, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http"), NodePort: 30777}},
			},
		}
		Expect(world.Client().Create(ctx, service)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(world.Client().Delete(ctx, service)).To(Succeed()) })
		Eventually(func(g Gomega, ctx context.Context) {
			a := ask(ctx, "trace", "asking", "traced", "-o", "json")
			g.Expect(a.Status).To(BeZero(), a.ErrOut)
			var t query.Trace
			g.Expect(json.Unmarshal([]byte(a.Out), &t)).To(Succeed())
			g.Expect(t.Backends).To(HaveLen(2))
		}).WithContext(ctx).Should(Succeed())
	})

	It("says what becomes of packets, which is what the kernel holds and what happens", func(ctx context.Context) {
		page := well(ctx, "trace", "asking", "traced:80")
		Expect(page).To(And(
			MatchRegexp(`^TCP from \S+ to \S+:80 on node three: Forward\nMode iptables, revision default-\w+\n`),
			MatchRegexp(`client +\S+ is a pod`),
			MatchRegexp(`frontend +\S+ is the cluster IP of default/traced:http`),
			ContainSubstring("one of 2, each as likely as the others"),
			MatchRegexp(`masquerade +yes: spec.masquerade.policy asks to masquerade all`),
			ContainSubstring("The kernel holds just that, read back:"),
			MatchRegexp(`-A SPROXY-C-\w+ .*-j DNAT --to-destination %s`, net.JoinHostPort(pods[0].IPv4.String(), "8080"))))

		t := decode[query.Trace](well(ctx, "trace", "pod/asking", "svc/traced:http", "-o", "json"))
		Expect(t.Name).To(Equal("three"))
		Expect(t.Verdict).To(Equal(trace.Forward))
		Expect(t.Kernel.Equal).To(BeTrue())
		reply, err := pods[2].Ask(ctx, "tcp", t.To)
		Expect(err).NotTo(HaveOccurred())
		Expect(reply.Pod).To(HavePrefix("traced-"))

		Expect(well(ctx, "trace", "node/one", "traced", "-o", "yaml")).To(And(ContainSubstring("verdict: Forward\n"), ContainSubstring("client: node\n")))

		By("asking at a node without an endpoint, from outside and from inside")
		three := net.JoinHostPort(world.Node("three").IPv4.String(), "30777")
		a := ask(ctx, "trace", "outside", three)
		Expect(a.Status).To(Equal(1))
		Expect(a.Out).To(And(ContainSubstring("on node three: Drop\n"), ContainSubstring("the traffic policy Local keeps clients like this one to those on this node")))
		Expect(well(ctx, "trace", "asking", three)).To(ContainSubstring("on node three: Forward\n"))
		Expect(well(ctx, "trace", "outside", "traced", "--node", "one")).To(MatchRegexp(`masquerade +no: the backend sees 192.0.2.1`))

		By("asking for what nobody has")
		a = ask(ctx, "trace", "asking", strings.TrimSuffix(t.To, ":80")+":81")
		Expect(a.Status).To(Equal(1))
		Expect(a.Out).To(And(ContainSubstring(": Reject\n"), ContainSubstring("has no port 81/tcp; it has 80/tcp of default/traced")))
		Expect(ask(ctx, "trace", "asking", "traced:82")).To(Equal(answer{ErrOut: "error: service traced has no port 82; it has 80/tcp\n", Status: 2}))
		Expect(ask(ctx, "trace", "asking", "nobody").ErrOut).To(ContainSubstring(`there is no Service "nobody" in namespace default`))
		Expect(ask(ctx, "trace", "nobody", "traced").ErrOut).To(ContainSubstring("finding pod nobody in namespace default"))
		Expect(ask(ctx, "trace", "asking", "traced", "--node", "one").ErrOut).To(ContainSubstring("asking sends from node three"))
		for name, spec := range map[string]string{"headless": `{"clusterIP": "None", "ports": [{"port": 80}]}`,
			"alias": `{"type": "ExternalName", "externalName": "example.com"}`, "two": `{"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}`} {
			object := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}, Spec: decode[corev1.ServiceSpec](spec)}
			Expect(world.Client().Create(ctx, object)).To(Succeed())
			DeferCleanup(func(ctx context.Context) { Expect(world.Client().Delete(ctx, object)).To(Succeed()) })
		}
		Expect(ask(ctx, "trace", "asking", "headless").ErrOut).To(ContainSubstring("its name stands for the addresses of its pods"))
		Expect(ask(ctx, "trace", "asking", "alias").ErrOut).To(ContainSubstring("its name is an alias of example.com"))
		Expect(ask(ctx, "trace", "asking", "two").ErrOut).To(ContainSubstring("several ports that could be meant: 1/tcp, 2/tcp; say which as two:PORT"))
		Eventually(asking(ctx, "trace", "asking", "two:b")).Should(And(HavePrefix("1: "), ContainSubstring("default/two:b has no endpoint that is ready")))
		Expect(ask(ctx, "trace", "outside", "traced").ErrOut).To(ContainSubstring("say with --node which one is meant"))
	})

	It("tells when the kernel does not hold what it should", func(ctx context.Context) {
		set(ctx, `{"sync": {"drift": "ReportOnly"}}`)
		Eventually(asking(ctx, "status")).Should(ContainSubstring("All is well"))
		three := world.Node("three")
		rules, err := three.Run(ctx, "iptables-nft-save", "-t", "nat")
		Expect(err).NotTo(HaveOccurred())
		backend := net.JoinHostPort(pods[0].IPv4.String(), "8080")
		for rule := range strings.Lines(rules) {
			if strings.HasPrefix(rule, "-A SPROXY-C-") && strings.HasSuffix(rule, "--to-destination "+backend+"\n") {
				_, err := three.RunInput(ctx, "*nat\n-D"+strings.TrimPrefix(rule, "-A")+"COMMIT\n", "iptables-nft-restore", "--noflush")
				Expect(err).NotTo(HaveOccurred())
			}
		}
		Eventually(asking(ctx, "trace", "asking", "traced")).Should(And(HavePrefix("1: "), ContainSubstring("The kernel holds something else:"),
			MatchRegexp(`differs: chain SPROXY-C-\w+ in table nat`), ContainSubstring("the forwarding table leads to "+backend+", and the kernel does not")))
	})

	It("is for those who may run commands in the agent's Pod alone", func(ctx context.Context) {
		folder, err := world.Node("one").Dir()
		Expect(err).NotTo(HaveOccurred())
		info, err := os.Stat(filepath.Join(folder, "service-proxy", "agent.sock"))
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode()).To(Equal(os.ModeSocket | 0o600))
		Expect(ask(ctx, "trace", "asking", "traced", "--as=nobody").Status).To(Equal(2))
	})
})
