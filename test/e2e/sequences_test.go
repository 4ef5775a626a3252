package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// steady is a Service with pods on every node, as it is before anything is changed.
const steady = `
apiVersion: v1
kind: Service
metadata: {name: steady}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
`

// gatherAtClusterIP is a crowd that talks to the cluster IPs of a Service, from the pods and the node of every node.
func gatherAtClusterIP(ctx context.Context, service string) *crowd {
	GinkgoHelper()
	c := &crowd{}
	DeferCleanup(c.leave)
	ctx = context.WithoutCancel(ctx)
	for _, node := range world.Nodes() {
		for _, from := range []*cluster.Host{pods["client-"+node.Name].Host, node.Host} {
			for _, f := range []family{ipv4, ipv6} {
				to := address(ctx, service, 80, f)
				c.streams = append(c.streams, traffic.Open(ctx, from, "tcp", to, 5*time.Millisecond))
				held, err := traffic.Hold(ctx, from, to, 4)
				Expect(err).NotTo(HaveOccurred())
				c.held = append(c.held, held...)
			}
		}
	}
	return c
}

var _ = Describe("Connections to the cluster IP of a Service that goes on existing", func() {
	// written expects that the rules of every node come to hold a text, and no longer hold others.
	written := func(ctx context.Context, text string, others ...string) {
		GinkgoHelper()
		for _, node := range world.Nodes() {
			rules := func() string { return rulesOf(ctx, node) }
			Eventually(rules).Should(ContainSubstring(text), node.Name)
			for _, other := range others {
				Eventually(rules).ShouldNot(ContainSubstring(other), node.Name)
			}
		}
	}
	patch := func(ctx context.Context, service, patch string) {
		GinkgoHelper()
		kubectl(ctx, "patch", "service", service, "--type=merge", "--patch="+patch)
	}

	type sequence struct {
		name string
		// steps change Service steady, or others, and return when nodes have followed.
		steps []func(context.Context)
	}
	type steps = []func(context.Context)
	ports := func(list string) string { return `{"spec":{"ports":[` + list + `]}}` }
	const http = `{"name":"http","port":80,"targetPort":"http"}`
	answers := func(ctx context.Context, to string) {
		GinkgoHelper()
		for _, node := range world.Nodes() {
			Eventually(asking(ctx, pods["client-"+node.Name].Host, to)).Should(Succeed())
		}
	}
	for _, s := range []sequence{
		{"a port is added, and removed", steps{
			func(ctx context.Context) {
				patch(ctx, "steady", ports(http+`,{"name":"admin","port":81,"targetPort":"admin"},{"name":"dns","port":53,"protocol":"UDP","targetPort":"dns"}`))
				answers(ctx, address(ctx, "steady", 81, ipv6))
			},
			func(ctx context.Context) {
				patch(ctx, "steady", ports(http))
				written(ctx, "default/steady:http", "default/steady:admin", "default/steady:dns")
			},
		}},
		{"its target port becomes another one that pods serve", steps{
			func(ctx context.Context) {
				patch(ctx, "steady", ports(`{"name":"http","port":80,"targetPort":"admin"}`))
				reaches(ctx, 9000)
			},
			func(ctx context.Context) {
				patch(ctx, "steady", ports(`{"name":"http","port":80,"targetPort":8080}`))
				reaches(ctx, 8080)
			},
		}},
		{"its type changes", steps{
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"type":"NodePort"}}`)
				answers(ctx, ipv4.on(world.Node(nft).Host, nodePort(ctx, "steady")))
			},
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"type":"LoadBalancer"}}`)
				giveAddresses(ctx, "steady", `{"ip":"198.51.100.30"}`)
				answers(ctx, "198.51.100.30:80")
			},
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"type":"ClusterIP"}}`)
				giveAddresses(ctx, "steady")
				written(ctx, "default/steady:http", "198.51.100.30")
			},
		}},
		{"its externalTrafficPolicy changes", steps{
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"type":"NodePort","externalTrafficPolicy":"Local"}}`)
				to := ipv4.on(world.Node(nft).Host, nodePort(ctx, "steady"))
				Eventually(asking(ctx, world.Outside(), to)).Should(Succeed())
				Expect(answer(ctx, world.Outside(), "tcp", to).Client.Addr()).To(Equal(world.Outside().IPv4))
			},
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"externalTrafficPolicy":"Cluster"}}`)
				to := ipv4.on(world.Node(nft).Host, nodePort(ctx, "steady"))
				Eventually(func() any { return answer(ctx, world.Outside(), "tcp", to).Client.Addr() }).ShouldNot(Equal(world.Outside().IPv4))
			},
		}},
		{"its internalTrafficPolicy changes", steps{
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"internalTrafficPolicy":"Local"}}`)
				for _, node := range world.Nodes() {
					Eventually(partners(ctx, pods["client-"+node.Name].Host)).Should(HaveEach(HavePrefix("web-" + node.Name)))
				}
			},
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"internalTrafficPolicy":"Cluster"}}`)
				for _, node := range world.Nodes() {
					Eventually(partners(ctx, pods["client-"+node.Name].Host)).Should(ContainElements(HavePrefix("web-nft"), HavePrefix("web-legacy")))
				}
			},
		}},
		{"its session affinity is turned on, changed and turned off", steps{
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"sessionAffinity":"ClientIP"}}`)
				for _, node := range world.Nodes() {
					Eventually(partners(ctx, pods["client-"+node.Name].Host)).Should(HaveLen(1))
				}
			},
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"sessionAffinityConfig":{"clientIP":{"timeoutSeconds":77}}}}`)
				written(ctx, "--timeout 77")
			},
			func(ctx context.Context) {
				patch(ctx, "steady", `{"spec":{"sessionAffinity":"None"}}`)
				for _, node := range world.Nodes() {
					Eventually(partners(ctx, pods["client-"+node.Name].Host)).Should(HaveLen(4))
				}
			},
		}},
		{"another Service is given to another proxy, and comes back", steps{
			func(ctx context.Context) {
				applyForNow(ctx, edge("leaver", toWeb, "ports: [{name: http, port: 80, targetPort: http}]"))
				answers(ctx, address(ctx, "leaver", 80, ipv6))
				patch(ctx, "leaver", `{"metadata":{"labels":{"service.kubernetes.io/service-proxy-name":"other"}}}`)
				written(ctx, "default/steady:http", "default/leaver:http")
			},
			func(ctx context.Context) {
				patch(ctx, "leaver", `{"metadata":{"labels":{"service.kubernetes.io/service-proxy-name":null}}}`)
				answers(ctx, address(ctx, "leaver", 80, ipv6))
			},
		}},
		{"another Service loses its endpoints, and then goes", steps{
			func(ctx context.Context) {
				applyForNow(ctx, edge("leaver", toWeb, "ports: [{name: http, port: 80, targetPort: http}]"))
				answers(ctx, address(ctx, "leaver", 80, ipv4))
				patch(ctx, "leaver", `{"spec":{"selector":{"app":"nobody"}}}`)
				to := address(ctx, "leaver", 80, ipv4)
				for _, node := range world.Nodes() {
					Eventually(asking(ctx, node.Host, to)).ShouldNot(Succeed())
				}
			},
			func(ctx context.Context) {
				kubectl(ctx, "delete", "service", "leaver")
				written(ctx, "default/steady:http", "default/leaver:http")
			},
		}},
	} {
		It("are undisturbed while "+s.name, func(ctx context.Context) {
			applyForNow(ctx, steady)
			for _, node := range world.Nodes() {
				for _, f := range []family{ipv4, ipv6} {
					Eventually(asking(ctx, node.Host, address(ctx, "steady", 80, f))).Should(Succeed())
				}
			}
			crowd := gatherAtClusterIP(ctx, "steady")
			for _, step := range s.steps {
				step(ctx)
				goesOn(ctx, 200*time.Millisecond)
				crowd.isUndisturbed()
			}
		})
	}
})

// partners are the pods that answer a client at the cluster IP of Service steady, each once.
func partners(ctx context.Context, from *cluster.Host) func() []string {
	return func() []string {
		seen := map[string]bool{}
		for range 40 { // The chance to miss one of four is 10^-5.
			seen[answer(ctx, from, "tcp", address(ctx, "steady", 80, ipv4)).Pod] = true
		}
		return slices.Sorted(maps.Keys(seen))
	}
}

// reaches waits until new connections to Service steady reach a port of its pods, in both families, on every node.
func reaches(ctx context.Context, port int) {
	GinkgoHelper()
	for _, node := range world.Nodes() {
		for _, f := range []family{ipv4, ipv6} {
			Eventually(func() string {
				conn, err := pods["client-"+node.Name].Dial(ctx, "tcp", address(ctx, "steady", 80, f))
				Expect(err).NotTo(HaveOccurred())
				defer func() { _ = conn.Close() }()
				from := conn.LocalAddr().(*net.TCPAddr)
				flow, err := node.Run(ctx, "conntrack", "-L", "-f", strings.ToLower(string(f)), "-p", "tcp",
					"--orig-src", from.IP.String(), "--orig-port-src", fmt.Sprint(from.Port))
				Expect(err).NotTo(HaveOccurred())
				return flow
			}).Should(MatchRegexp(`src=\S+ dst=\S+ sport=%d dport=`, port))
		}
	}
}
