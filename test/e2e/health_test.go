package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// balanced is a Service that a load balancer would send to the nodes that have a pod of it.
const balanced = `
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 31080
  ipFamilyPolicy: RequireDualStack
  selector: {app: balanced}
  ports: [{name: http, port: 80, targetPort: http}]
`

func balancedPod(name, node string) cluster.PodSpec {
	return cluster.PodSpec{Name: name, Node: node, Labels: map[string]string{"app": "balanced"}, Ports: webPod("", "").Ports}
}

// giveAddresses does for a Service what the controller of a load balancer does. Each ingress is JSON.
func giveAddresses(ctx context.Context, service string, ingress ...string) {
	GinkgoHelper()
	kubectl(ctx, "patch", "service", service, "--subresource=status", "--type=merge",
		`--patch={"status":{"loadBalancer":{"ingress":[`+strings.Join(ingress, ",")+`]}}}`)
}

// routeForNow sends what the outside has for a prefix to a node, until the end of the spec.
func routeForNow(node *cluster.Node, prefixes ...string) {
	GinkgoHelper()
	for _, text := range prefixes {
		prefix := netip.MustParsePrefix(text)
		Expect(world.RouteVia(node, prefix)).To(Succeed())
		DeferCleanup(world.Unroute, prefix)
	}
}

// silent expects that connections are neither answered nor refused.
func silent(ctx context.Context, from *cluster.Host, to string) {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
	defer cancel()
	_, err := from.Ask(ctx, "tcp", to)
	Expect(err).To(MatchError(ContainSubstring("timeout")))
}

// unserved expects that nobody serves an address that is only routed to a node: nothing comes back, or the node says that it
// knows no way, which a client hears unless it comes while it is still in connect(2).
func unserved(ctx context.Context, from *cluster.Host, to string) {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
	defer cancel()
	_, err := from.Ask(ctx, "tcp", to)
	Expect(err).To(MatchError(Or(ContainSubstring("timeout"), ContainSubstring("unreachable"))))
}

// runForNow runs pods until the end of the spec.
func runForNow(ctx context.Context, specs ...cluster.PodSpec) []*cluster.Pod {
	GinkgoHelper()
	running, err := world.RunPods(ctx, specs...)
	Expect(err).NotTo(HaveOccurred())
	for _, pod := range running {
		DeferCleanup(pod.Delete)
	}
	return running
}

// health is what a load balancer is told of a Service at a node: status, number of local endpoints, weight.
func health(ctx context.Context, node *cluster.Node, f family) func() (string, error) {
	return func() (string, error) {
		status, headers, body, err := fetchAll(ctx, world.Outside(), "http://"+f.on(node.Host, 31080)+"/any/path")
		if err != nil {
			return "", err
		}
		var a struct {
			Service             struct{ Namespace, Name string }
			LocalEndpoints      int
			ServiceProxyHealthy bool
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			return "", fmt.Errorf("reading %q: %w", body, err)
		}
		return fmt.Sprintf("%d %s/%s local=%d healthy=%t weight=%s", status, a.Service.Namespace, a.Service.Name,
			a.LocalEndpoints, a.ServiceProxyHealthy, headers.Get("X-Load-Balancing-Endpoint-Weight")), nil
	}
}

func healthy(local int) string {
	return fmt.Sprintf("%d default/balanced local=%d healthy=true weight=%[2]d", http.StatusOK, local)
}

const unhealthy = "503 default/balanced local=0 healthy=true weight=0"

var _ = Describe("A Service with a healthCheckNodePort", func() {
	tells := func(ctx context.Context, node, answer string) {
		GinkgoHelper()
		for _, f := range []family{ipv4, ipv6} {
			Eventually(health(ctx, world.Node(node), f)).Should(Equal(answer), "%s, %s", node, f)
		}
	}

	It("tells load balancers which nodes have pods of it, as they come and go", func(ctx context.Context) {
		applyForNow(ctx, balanced)
		tells(ctx, nft, unhealthy)
		first := runForNow(ctx, balancedPod("balanced-1", nft))[0]
		tells(ctx, nft, healthy(1))
		tells(ctx, legacy, unhealthy)
		runForNow(ctx, balancedPod("balanced-2", nft), balancedPod("balanced-3", legacy))
		tells(ctx, nft, healthy(2))
		tells(ctx, legacy, healthy(1))
		Expect(first.SetReady(ctx, false)).To(Succeed())
		tells(ctx, nft, healthy(1))
	})

	It("sends load balancers away while its pods drain, and serves who comes nevertheless", func(ctx context.Context) {
		applyForNow(ctx, balanced)
		giveAddresses(ctx, "balanced", `{"ip":"198.51.100.20"}`)
		routeForNow(world.Node(legacy), "198.51.100.20/32")
		pod := runForNow(ctx, balancedPod("balanced-1", legacy))[0]
		tells(ctx, legacy, healthy(1))
		Expect(pod.Terminate(ctx)).To(Succeed())
		tells(ctx, legacy, unhealthy)
		Expect(answer(ctx, world.Outside(), "tcp", "198.51.100.20:80").Pod).To(Equal("balanced-1"))
	})

	It("is asked there until its policy changes or it is deleted, and another one then has the port", func(ctx context.Context) {
		runForNow(ctx, balancedPod("balanced-1", nft))
		closed := func() {
			GinkgoHelper()
			for _, node := range world.Nodes() {
				Eventually(func() error {
					_, err := health(ctx, node, ipv4)()
					return err
				}).Should(MatchError(syscall.ECONNREFUSED))
				Eventually(rulesOf).WithArguments(ctx, node).ShouldNot(ContainSubstring("--dport 31080"))
			}
		}
		applyForNow(ctx, balanced)
		tells(ctx, nft, healthy(1))
		Eventually(rulesOf).WithArguments(ctx, world.Node(nft)).Should(ContainSubstring("--dport 31080"))
		kubectl(ctx, "patch", "service", "balanced", `--patch={"spec":{"externalTrafficPolicy":"Cluster","healthCheckNodePort":0}}`)
		closed()
		kubectl(ctx, "patch", "service", "balanced", `--patch={"spec":{"externalTrafficPolicy":"Local","healthCheckNodePort":31080}}`)
		tells(ctx, nft, healthy(1))
		kubectl(ctx, "delete", "service", "balanced")
		closed()
		applyForNow(ctx, strings.ReplaceAll(balanced, "balanced", "heir"))
		Eventually(health(ctx, world.Node(nft), ipv4)).Should(ContainSubstring("default/heir"))
	})

	for _, name := range []string{nft, legacy} {
		It("is asked there also where node "+name+" lets nothing else in", func(ctx context.Context) {
			node := world.Node(name)
			listener, err := node.Listen(ctx, "tcp", ":31999")
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(listener.Close)
			applyForNow(ctx, balanced)
			tells(ctx, name, unhealthy)
			for program, icmp := range map[string]string{"iptables-" + name: "icmp", "ip6tables-" + name: "ipv6-icmp"} {
				run := func(ctx context.Context, args string) {
					GinkgoHelper()
					_, err := node.Run(ctx, program, append([]string{"--wait"}, strings.Fields(args)...)...)
					Expect(err).NotTo(HaveOccurred())
				}
				for _, match := range []string{"-i lo", "-p " + icmp, "-m conntrack --ctstate ESTABLISHED"} {
					run(ctx, "-A INPUT -j ACCEPT "+match)
					DeferCleanup(run, "-D INPUT -j ACCEPT "+match)
				}
				DeferCleanup(run, "-P INPUT ACCEPT")
				run(ctx, "-P INPUT DROP")
			}
			for _, f := range []family{ipv4, ipv6} {
				silent(ctx, world.Outside(), f.on(node.Host, 31999))
				Expect(health(ctx, node, f)()).To(Equal(unhealthy))
			}
		})
	}
})

var _ = Describe("The address of a load balancer", func() {
	It("is served at nodes with a pod, which see the client, and silent at others, with externalTrafficPolicy: Local", func(ctx context.Context) {
		runForNow(ctx, balancedPod("balanced-1", nft))
		applyForNow(ctx, balanced)
		giveAddresses(ctx, "balanced", `{"ip":"198.51.100.20"}`, `{"ip":"2001:db8:198::20"}`)
		for f, ip := range map[family]string{ipv4: "198.51.100.20/32", ipv6: "2001:db8:198::20/128"} {
			prefix := netip.MustParsePrefix(ip)
			to := netip.AddrPortFrom(prefix.Addr(), 80).String()
			routeForNow(world.Node(nft), ip)
			Eventually(asking(ctx, world.Outside(), to)).Should(Succeed())
			Expect(answer(ctx, world.Outside(), "tcp", to).Client.Addr()).To(Equal(f.of(world.Outside())))
			for _, node := range world.Nodes() {
				Eventually(asking(ctx, node.Host, to)).Should(Succeed())
				answer(ctx, pods["client-"+node.Name].Host, "tcp", to)
			}
			Expect(world.RouteVia(world.Node(legacy), prefix)).To(Succeed())
			silent(ctx, world.Outside(), to)
		}
	})

	It("is left to the load balancer with ipMode: Proxy, and served again with VIP", func(ctx context.Context) {
		runForNow(ctx, balancedPod("balanced-1", nft))
		applyForNow(ctx, balanced)
		routeForNow(world.Node(nft), "198.51.100.20/31")
		giveAddresses(ctx, "balanced", `{"ip":"198.51.100.20","ipMode":"VIP"}`, `{"ip":"198.51.100.21","ipMode":"Proxy"}`)
		Eventually(asking(ctx, world.Outside(), "198.51.100.20:80")).Should(Succeed())
		unserved(ctx, world.Outside(), "198.51.100.21:80")
		for _, node := range world.Nodes() {
			Eventually(rulesOf).WithArguments(ctx, node).Should(And(ContainSubstring("198.51.100.20"), Not(ContainSubstring("198.51.100.21"))))
		}
		giveAddresses(ctx, "balanced", `{"ip":"198.51.100.20","ipMode":"Proxy"}`, `{"ip":"198.51.100.21","ipMode":"VIP"}`)
		Eventually(asking(ctx, world.Outside(), "198.51.100.21:80")).Should(Succeed())
		unserved(ctx, world.Outside(), "198.51.100.20:80")
		giveAddresses(ctx, "balanced")
		Eventually(rulesOf).WithArguments(ctx, world.Node(nft)).ShouldNot(ContainSubstring("198.51.100."))
	})

	It("is open to loadBalancerSourceRanges alone, while cluster IP and node port are open to all", func(ctx context.Context) {
		runForNow(ctx, balancedPod("balanced-1", nft))
		applyForNow(ctx, strings.ReplaceAll(balanced, "externalTrafficPolicy: Local\n  healthCheckNodePort: 31080",
			`loadBalancerSourceRanges: ["203.0.113.0/28", "2001:db8:113::/112"]`+"\n  allocateLoadBalancerNodePorts: true"))
		giveAddresses(ctx, "balanced", `{"ip":"198.51.100.20"}`, `{"ip":"2001:db8:198::20"}`)
		addresses := []string{"198.51.100.20:80", "[2001:db8:198::20]:80"}
		routeForNow(world.Node(legacy), "198.51.100.20/32", "2001:db8:198::20/128")
		client := pods["client-legacy"].Host
		for _, to := range addresses {
			Eventually(asking(ctx, world.Outside(), to)).Should(Succeed())
			silent(ctx, client, to)
		}
		kubectl(ctx, "patch", "service", "balanced", `--patch={"spec":{"loadBalancerSourceRanges":["10.244.0.0/16","fd00:10:244::/48"]}}`)
		for _, to := range addresses {
			Eventually(asking(ctx, client, to)).Should(Succeed())
			silent(ctx, world.Outside(), to)
		}
		for _, f := range []family{ipv4, ipv6} {
			answer(ctx, client, "tcp", address(ctx, "balanced", 80, f))
			answer(ctx, world.Outside(), "tcp", f.on(world.Node(legacy).Host, nodePort(ctx, "balanced")))
		}
		kubectl(ctx, "patch", "service", "balanced", `--patch={"spec":{"loadBalancerSourceRanges":null}}`)
		for _, to := range addresses {
			Eventually(asking(ctx, world.Outside(), to)).Should(Succeed())
		}
	})
})

// nodePort is the first node port of a Service.
func nodePort(ctx context.Context, service string) int {
	GinkgoHelper()
	return int(get(ctx, service, &corev1.Service{}).Spec.Ports[0].NodePort)
}
