package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

var _ = Describe("A node that cannot be programmed", func() {
	var node *cluster.Node
	BeforeEach(func(ctx context.Context) {
		var err error
		node, err = world.AddNode(ctx, "bare")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) {
			Expect(forget(ctx, node)).To(Succeed())
			Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
		})
	})

	// isReported expects that the node says what is wrong, the config names it, and other nodes go on.
	isReported := func(ctx context.Context, remedy string) {
		GinkgoHelper()
		Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionAccepted)).Should(Equal("False/BackendUnavailable"))
		Expect(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)()).To(Equal("False/BackendUnavailable"))
		n := proxyNode(ctx, node.Name)
		Expect(meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionAccepted).Message).To(ContainSubstring(remedy))
		Eventually(configReady(ctx, "default")).Should(Equal("False/NodesFailed"))
		failed := config(ctx, "default").Status.FailedNodes
		Expect(failed).To(HaveLen(1))
		Expect(failed[0].Name).To(Equal(node.Name))
		Expect(failed[0].Reason).To(Equal(v1alpha1.ReasonBackendUnavailable))
		for _, other := range []string{nft, legacy} {
			Expect(nodeIs(ctx, other, v1alpha1.ConditionReady)()).To(Equal("True/Synced"))
			answer(ctx, pods["client-"+other].Host, "tcp", address(ctx, "web", 80, ipv4))
		}
	}

	It("for want of iptables says so, and recovers when it is installed", func(ctx context.Context) {
		programs := GinkgoT().TempDir()
		Expect(setup.StartAgent(ctx, node, "PATH="+programs)).To(Succeed())
		isReported(ctx, "install")
		for _, prefix := range []string{"iptables", "ip6tables"} {
			for _, suffix := range []string{"", "-nft", "-nft-save", "-nft-restore", "-legacy", "-legacy-save", "-legacy-restore"} {
				path, err := exec.LookPath(prefix + suffix)
				Expect(err).NotTo(HaveOccurred())
				Expect(os.Symlink(path, filepath.Join(programs, prefix+suffix))).To(Succeed())
			}
		}
		Eventually(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)).WithTimeout(time.Minute).Should(Equal("True/Synced"))
		answer(ctx, node.Host, "tcp", address(ctx, "web", 80, ipv4))
	})

	It("for want of permission says which", func(ctx context.Context) {
		spec, err := setup.AgentProcess(ctx, node)
		Expect(err).NotTo(HaveOccurred())
		for i, arg := range spec.Args {
			spec.Args[i] = strings.ReplaceAll(arg, ",+net_admin,+net_raw", "")
		}
		_, err = node.Start(spec)
		Expect(err).NotTo(HaveOccurred())
		isReported(ctx, "NET_ADMIN")
	})
})

var _ = Describe("A part of an object that cannot be programmed", func() {
	It("gets an event that names it, while everything else is programmed", func(ctx context.Context) {
		applyForNow(ctx, `
apiVersion: v1
kind: Service
metadata: {name: odd}
spec:
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: odd-1
  labels: {kubernetes.io/service-name: odd}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- addresses: [10.96.200.200]
- addresses: ["`+pods["web-nft-1"].IPv4.String()+`"]
`)
		Eventually(asking(ctx, pods["client-nft"].Host, address(ctx, "odd", 80, ipv4))).Should(Succeed())
		for range 10 {
			Expect(answer(ctx, pods["client-nft"].Host, "tcp", address(ctx, "odd", 80, ipv4)).Pod).To(Equal("web-nft-1"))
		}
		Eventually(events(ctx, "odd")).Should(And(ContainSubstring("NotProgrammed"), ContainSubstring("10.96.200.200")))
		Expect(configReady(ctx, "default")()).To(Equal("True/AllNodesReady"))
	})

	It("is the younger claim to an address that two Services want", func(ctx context.Context) {
		const shared = "198.51.100.7"
		service := func(name, app string) string {
			return `
apiVersion: v1
kind: Service
metadata: {name: ` + name + `}
spec:
  externalIPs: [` + shared + `]
  selector: {app: ` + app + `}
  ports: [{name: http, port: 80, targetPort: http}]
`
		}
		from := pods["client-nft"].Host
		applyForNow(ctx, service("first", "solo"))
		Eventually(asking(ctx, from, shared+":80")).Should(Succeed())
		applyForNow(ctx, service("second", "web"))
		Eventually(events(ctx, "second")).Should(And(ContainSubstring(shared), ContainSubstring("default/first")))
		for range 10 {
			Expect(answer(ctx, from, "tcp", shared+":80").Pod).To(Equal("solo"))
		}
		Eventually(asking(ctx, from, address(ctx, "second", 80, ipv4))).Should(Succeed())

		By("handing it over when the first one goes")
		kubectl(ctx, "delete", "service", "first")
		Eventually(func() (string, error) {
			reply, err := from.Ask(ctx, "tcp", shared+":80")
			return reply.Pod, err
		}).Should(HavePrefix("web"))
	})
})

// events are the events of a Service.
func events(ctx context.Context, service string) func() string {
	return func() string {
		return kubectl(ctx, "get", "events", "--field-selector=involvedObject.kind=Service,involvedObject.name="+service,
			"-o", `jsonpath={range .items[*]}{.reason} {.message}{"\n"}{end}`)
	}
}

var _ = Describe("A node on which something else is in the way of Services", func() {
	It("says so, also to load balancers, until it is gone", func(ctx context.Context) {
		node := world.Node(nft)
		ip := serviceIP(ctx, "kubernetes")
		firewall := func(ctx context.Context, action string) error {
			_, err := node.Run(ctx, "iptables-nft", "-w", "-t", "raw", action, "OUTPUT", "-d", ip, "-j", "DROP")
			return err
		}
		Expect(firewall(ctx, "-A")).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			Expect(firewall(ctx, "-D")).To(Succeed())
			Eventually(nodeIs(ctx, nft, v1alpha1.ConditionReady)).WithTimeout(time.Minute).Should(Equal("True/Synced"))
			Eventually(healthz(ctx, node)).Should(HavePrefix("200 "))
			Eventually(configReady(ctx, "default")).WithTimeout(time.Minute).Should(Equal("True/AllNodesReady"))
		})
		Eventually(nodeIs(ctx, nft, v1alpha1.ConditionReady)).WithTimeout(time.Minute).Should(Equal("False/DataPathBroken"))
		Expect(nodeIs(ctx, nft, v1alpha1.ConditionProgrammed)()).To(Equal("True/Synced"))
		Eventually(healthz(ctx, node)).Should(And(HavePrefix("503 "), ContainSubstring("Service default/kubernetes at "+ip)))
	})
})

// healthz is what a load balancer is told of a node.
func healthz(ctx context.Context, node *cluster.Node) func() (string, error) {
	return func() (string, error) {
		status, _, body, err := fetchAll(ctx, world.Outside(), "http://"+ipv4.on(node.Host, 10256)+"/healthz")
		return fmt.Sprint(status, " ", body), err
	}
}

func serviceIP(ctx context.Context, name string) string {
	GinkgoHelper()
	return kubectl(ctx, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
}
