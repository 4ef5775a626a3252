package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// listenForNow has a process of a host answer as pods do, under a name, until the end of the spec.
func listenForNow(ctx context.Context, host *cluster.Host, address, name string) {
	GinkgoHelper()
	listener, err := host.Listen(ctx, "tcp", address)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(listener.Close)
	go greet(listener, func(net.Conn) string { return name })
}

// greet tells every client who answers, and who it is.
func greet(listener net.Listener, name func(net.Conn) string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(conn, "%s %s\n", name(conn), conn.RemoteAddr())
		_ = conn.Close()
	}
}

// refused expects that connections are refused.
func refused(ctx context.Context, from *cluster.Host, to string) {
	GinkgoHelper()
	_, err := from.Ask(ctx, "tcp", to)
	Expect(err).To(MatchError(syscall.ECONNREFUSED))
}

// answering asks over TCP whenever it is called, and returns which pod answered, for Eventually.
func answering(ctx context.Context, from *cluster.Host, to string) func() (string, error) {
	return func() (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		reply, err := from.Ask(ctx, "tcp", to)
		return reply.Pod, err
	}
}

// edge is a Service with its pods in the Service web, and with more of a spec.
func edge(name string, spec ...string) string {
	return `
apiVersion: v1
kind: Service
metadata: {name: ` + name + `}
spec:
  ipFamilyPolicy: RequireDualStack
  ` + strings.Join(spec, "\n  ") + "\n"
}

const toWeb, toSolo = "selector: {app: web}", "selector: {app: solo}"

var _ = Describe("An address of a load balancer that is also one of a node", func() {
	It("is the Service's at its ports, and stays the node's at all others", func(ctx context.Context) {
		node, other := world.Node(nft), world.Node(legacy)
		for _, f := range []family{ipv4, ipv6} {
			for _, port := range []int{8088, 9099} {
				listenForNow(ctx, node.Host, f.on(node.Host, port), "process")
			}
		}
		applyForNow(ctx, edge("edge", "type: LoadBalancer", toWeb, "ports: [{port: 8088, targetPort: http}]"))
		giveAddresses(ctx, "edge", fmt.Sprintf(`{"ip":"%s"}`, node.IPv4), fmt.Sprintf(`{"ip":"%s"}`, node.IPv6))
		for _, f := range []family{ipv4, ipv6} {
			for _, from := range []*cluster.Host{world.Outside(), node.Host, other.Host, pods["client-nft"].Host, pods["client-legacy"].Host} {
				Eventually(answering(ctx, from, f.on(node.Host, 8088))).Should(HavePrefix("web"))
				Expect(answer(ctx, from, "tcp", f.on(node.Host, 9099)).Pod).To(Equal("process"))
				refused(ctx, from, f.on(node.Host, 9098))
			}
		}
		Expect(configReady(ctx, "default")()).To(Equal("True/AllNodesReady"))
		kubectl(ctx, "delete", "service", "edge")
		Eventually(answering(ctx, world.Outside(), ipv4.on(node.Host, 8088))).Should(Equal("process"))
	})
})

var _ = Describe("A node port that a process of the node listens on", func() {
	It("is the Service's until it is deleted", func(ctx context.Context) {
		for _, node := range world.Nodes() {
			listenForNow(ctx, node.Host, ":31777", "process")
		}
		applyForNow(ctx, edge("edge", "type: NodePort", toWeb, "ports: [{port: 80, targetPort: http, nodePort: 31777}]"))
		for _, node := range world.Nodes() {
			for _, from := range []*cluster.Host{world.Outside(), node.Host, pods["client-"+node.Name].Host} {
				for _, f := range []family{ipv4, ipv6} {
					Eventually(answering(ctx, from, f.on(node.Host, 31777))).Should(HavePrefix("web"))
				}
			}
		}
		kubectl(ctx, "delete", "service", "edge")
		for _, node := range world.Nodes() {
			Eventually(answering(ctx, world.Outside(), ipv6.on(node.Host, 31777))).Should(Equal("process"))
		}
	})

	It("is said where it is a healthCheckNodePort, while all else is programmed, and served with a change once it is free", func(ctx context.Context) {
		listener, err := world.Node(nft).Listen(ctx, "tcp", ":31080")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { _ = listener.Close() })
		runForNow(ctx, balancedPod("balanced-1", nft))
		applyForNow(ctx, balanced)
		giveAddresses(ctx, "balanced", `{"ip":"198.51.100.20"}`)
		Eventually(events(ctx, "balanced")).Should(And(ContainSubstring("spec.healthCheckNodePort"), ContainSubstring("31080")))
		Eventually(asking(ctx, world.Node(nft).Host, "198.51.100.20:80")).Should(Succeed())
		Eventually(health(ctx, world.Node(legacy), ipv4)).Should(Equal(unhealthy))
		Expect(listener.Close()).To(Succeed())
		runForNow(ctx, balancedPod("balanced-2", nft))
		Eventually(health(ctx, world.Node(nft), ipv4)).Should(Equal(healthy(2)))
	})
})

var _ = Describe("An address that several Services claim", func() {
	const shared = "198.51.100.9"
	// message is what nodes say when they are in sync.
	message := func(ctx context.Context, node string) func() string {
		return func() string {
			return meta.FindStatusCondition(proxyNode(ctx, node).Status.Conditions, v1alpha1.ConditionProgrammed).Message
		}
	}

	It("is held by the first, told of in events and by nodes, and goes to the oldest of those that wait", func(ctx context.Context) {
		const claim = "externalIPs: [" + shared + "]"
		const port = "ports: [{name: http, port: 80, targetPort: http}]"
		from := pods["client-nft"].Host
		answered := answering(ctx, from, shared+":80")
		runForNow(ctx, balancedPod("third", nft))

		// Times in the API are whole seconds. The name of the oldest would have it wait the longest.
		applyForNow(ctx, edge("z-oldest", toSolo, port))
		goesOn(ctx, 1100*time.Millisecond)
		applyForNow(ctx, edge("holder", claim, toWeb, port))
		Eventually(asking(ctx, from, shared+":80")).Should(Succeed())
		applyForNow(ctx, edge("late", claim, "selector: {app: balanced}", port))
		kubectl(ctx, "patch", "service", "z-oldest", `--patch={"spec":{"externalIPs":["`+shared+`"]}}`)
		for _, waits := range []string{"z-oldest", "late"} {
			Eventually(events(ctx, waits)).Should(And(ContainSubstring("NotProgrammed"), ContainSubstring(shared), ContainSubstring("default/holder")))
		}
		Expect(events(ctx, "holder")()).NotTo(ContainSubstring("NotProgrammed"))
		for _, node := range world.Nodes() {
			Eventually(message(ctx, node.Name)).Should(And(ContainSubstring("2 addresses are claimed by several Services"), ContainSubstring(shared)))
			Expect(nodeIs(ctx, node.Name, v1alpha1.ConditionReady)()).To(Equal("True/Synced"))
		}
		for range 10 {
			Expect(answered()).To(HavePrefix("web"))
		}
		for name, pod := range map[string]string{"z-oldest": "solo", "late": "third"} {
			Expect(answer(ctx, from, "tcp", address(ctx, name, 80, ipv4)).Pod).To(Equal(pod), "all else of a Service that waits")
		}

		By("letting the oldest have it where an agent starts afresh")
		setup.Agent(nft).Kill()
		Expect(setup.StartAgent(ctx, world.Node(nft))).To(Succeed())
		Eventually(answered).Should(Equal("solo"))
		Expect(answer(ctx, world.Node(legacy).Host, "tcp", shared+":80").Pod).To(HavePrefix("web"), "elsewhere the holder keeps it")

		By("handing it on, and on")
		kubectl(ctx, "delete", "service", "holder")
		for _, node := range world.Nodes() {
			Eventually(answering(ctx, node.Host, shared+":80")).Should(Equal("solo"))
			Eventually(message(ctx, node.Name)).Should(ContainSubstring("1 addresses are claimed by several Services"))
		}
		kubectl(ctx, "patch", "service", "z-oldest", `--patch={"spec":{"externalIPs":null}}`)
		for _, node := range world.Nodes() {
			Eventually(answering(ctx, node.Host, shared+":80")).Should(Equal("third"))
			Eventually(message(ctx, node.Name)).ShouldNot(ContainSubstring("claimed"))
		}
	})

	It("stays with the Service whose cluster IP it is, but for ports that this one does not have", func(ctx context.Context) {
		clusterIP, _, err := net.SplitHostPort(address(ctx, "solo", 80, ipv4))
		Expect(err).NotTo(HaveOccurred())
		applyForNow(ctx, edge("thief", "type: LoadBalancer", toWeb,
			"ports: [{name: http, port: 80, targetPort: http}, {name: other, port: 8088, targetPort: http}]"))
		giveAddresses(ctx, "thief", `{"ip":"`+clusterIP+`"}`)
		Eventually(events(ctx, "thief")).Should(And(ContainSubstring(clusterIP), ContainSubstring("default/solo")))
		for _, node := range world.Nodes() {
			for range 10 {
				Expect(answer(ctx, pods["client-"+node.Name].Host, "tcp", clusterIP+":80").Pod).To(Equal("solo"))
			}
			Eventually(asking(ctx, pods["client-"+node.Name].Host, clusterIP+":8088")).Should(Succeed())
			Expect(answer(ctx, pods["client-"+node.Name].Host, "tcp", clusterIP+":8088").Pod).To(HavePrefix("web"))
		}
	})
})

var _ = Describe("A Service with 5,000 endpoints", func() {
	It("spreads connections over all of them, on every node", func(ctx context.Context) {
		const slicesOf, perSlice = 5, 1000
		crowd := gather(ctx)
		many := netip.MustParsePrefix("10.250.0.0/19")
		pod := runForNow(ctx, cluster.PodSpec{Name: "many", Node: nft})[0]
		haveRange(pod, many)
		listener, err := pod.Listen(ctx, "tcp", "0.0.0.0:7000")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(listener.Close)
		go greet(listener, func(conn net.Conn) string { return conn.LocalAddr().(*net.TCPAddr).IP.String() })

		manifests := edge("many", "ports: [{name: http, port: 80}]")
		rule := func(endpoint netip.Addr) string { return "--to-destination " + endpoint.String() + ":7000\n" }
		of := map[string]int{} // slice by address
		last := many.Addr()
		for n := range slicesOf {
			manifests += fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"+
				"metadata: {name: many-%d, labels: {kubernetes.io/service-name: many}}\n"+
				"addressType: IPv4\nports: [{name: http, port: 7000}]\nendpoints:\n", n)
			for range perSlice {
				last = last.Next()
				of[last.String()] = n
				manifests += fmt.Sprintf("- addresses: [%s]\n", last)
			}
		}
		applyForNow(ctx, manifests)
		for _, node := range world.Nodes() {
			Eventually(rulesOf).WithArguments(ctx, node).WithPolling(time.Second / 4).Should(ContainSubstring(rule(last)))
			for _, from := range []*cluster.Host{pods["client-"+node.Name].Host, node.Host} {
				reached, bySlice := map[string]bool{}, make([]int, slicesOf)
				for range 250 { // 5,000 equal endpoints: 244 different ones are expected, and 50 in each slice
					ip := answer(ctx, from, "tcp", address(ctx, "many", 80, ipv4)).Pod
					reached[ip] = true
					bySlice[of[ip]]++
				}
				Expect(len(reached)).To(BeNumerically(">", 225))
				Expect(slices.Min(bySlice)).To(BeNumerically(">", 15), fmt.Sprint(bySlice))
			}
		}

		By("following when a slice goes")
		kubectl(ctx, "delete", "endpointslice", "many-0")
		for _, node := range world.Nodes() {
			Eventually(rulesOf).WithArguments(ctx, node).ShouldNot(ContainSubstring(rule(many.Addr().Next())))
			Expect(of[answer(ctx, node.Host, "tcp", address(ctx, "many", 80, ipv4)).Pod]).NotTo(BeZero())
		}
		crowd.isUndisturbed()
	})
})

// haveRange gives a pod all addresses of a range, and nodes the way there, until the end of the spec.
func haveRange(pod *cluster.Pod, addresses netip.Prefix) {
	GinkgoHelper()
	to := &net.IPNet{IP: addresses.Addr().AsSlice(), Mask: net.CIDRMask(addresses.Bits(), 32)}
	Expect(pod.Configure(func(links *netlink.Handle) error {
		loopback, err := links.LinkByName("lo")
		if err != nil {
			return err
		}
		return links.RouteAdd(&netlink.Route{Dst: to, LinkIndex: loopback.Attrs().Index, Type: syscall.RTN_LOCAL, Table: syscall.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST})
	})).To(Succeed())
	for _, node := range world.Nodes() {
		via := pod.IPv4
		if node != pod.Node {
			via = pod.Node.IPv4
		}
		route := &netlink.Route{Dst: to, Gw: via.AsSlice()}
		Expect(node.Configure(func(links *netlink.Handle) error { return links.RouteAdd(route) })).To(Succeed())
		DeferCleanup(func() error {
			return node.Configure(func(links *netlink.Handle) error { return links.RouteDel(route) })
		})
	}
}

var _ = Describe("Where node ports are open", func() {
	It("changes at 127.0.0.1, which stays closed to the network", func(ctx context.Context) {
		const local = "127.0.0.1:30080"
		crowd := gather(ctx)
		var held traffic.Connections
		for _, node := range world.Nodes() {
			listenForNow(ctx, node.Host, "127.0.0.2:9009", "process")
			connections, err := traffic.Hold(context.WithoutCancel(ctx), node.Host, local, 4)
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(connections.Close)
			held = append(held, connections...)
		}
		areClosed := func() {
			GinkgoHelper()
			for _, node := range world.Nodes() {
				Expect(answer(ctx, node.Host, "tcp", "127.0.0.2:9009").Pod).To(Equal("process"))
				sendLoopbackTo(node, func() { silent(ctx, world.Fabric(), "127.0.0.2:9009") })
			}
		}
		areClosed()
		patchForNow(ctx, `{"spec":{"nodePorts":{"localhost":"Disabled"}}}`, `{"spec":{"nodePorts":null}}`)
		for _, node := range world.Nodes() {
			refused(ctx, node.Host, local)
		}
		areClosed()
		By("naming the address without opening it")
		patchForNow(ctx, `{"spec":{"nodePorts":{"addresses":["192.168.0.0/16","127.0.0.1/32","fd77::/64"]}}}`, `{"spec":{"nodePorts":null}}`)
		for _, node := range world.Nodes() {
			refused(ctx, node.Host, local)
			answer(ctx, world.Outside(), "tcp", ipv4.on(node.Host, 30080))
		}
		kubectl(ctx, "patch", "spc", "default", "--type=merge", `--patch={"spec":{"nodePorts":{"localhost":"Enabled"}}}`)
		for _, node := range world.Nodes() {
			Eventually(asking(ctx, node.Host, local)).Should(Succeed())
		}
		areClosed()
		Expect(held.Broken()).To(Succeed())
		crowd.isUndisturbed()
	})

	It("changes to the primary addresses of nodes and back", func(ctx context.Context) {
		crowd := gather(ctx)
		second := map[string]netip.Addr{nft: netip.MustParseAddr("198.51.100.77"), legacy: netip.MustParseAddr("198.51.100.78")}
		talks := map[string]*talk{}
		for name, ip := range second {
			node := world.Node(name)
			Expect(node.AddAddress(ip)).To(Succeed())
			DeferCleanup(node.Run, "ip", "address", "del", ip.String()+"/32", "dev", "lo")
			routeForNow(node, ip.String()+"/32")
			Expect(answer(ctx, world.Outside(), "tcp", ip.String()+":30080").Pod).To(HavePrefix("web"))
			talks[name] = startTalk(ctx, world.Outside(), ip.String()+":30053")
			talks[name].partner()
		}
		patchForNow(ctx, `{"spec":{"nodePorts":{"addresses":["Primary"]}}}`, `{"spec":{"nodePorts":null}}`)
		for name, ip := range second {
			refused(ctx, world.Outside(), ip.String()+":30080")
			refused(ctx, world.Node(name).Host, ip.String()+":30080")
			refused(ctx, world.Node(name).Host, "127.0.0.1:30080")
			answer(ctx, world.Outside(), "tcp", ipv4.on(world.Node(name).Host, 30080))
			answer(ctx, world.Outside(), "tcp", ipv6.on(world.Node(name).Host, 30080))
		}
		for _, t := range talks {
			Eventually(func() []string { return t.since(time.Now().Add(-200 * time.Millisecond))() }).WithTimeout(soon).Should(BeEmpty())
		}
		kubectl(ctx, "patch", "spc", "default", "--type=merge", `--patch={"spec":{"nodePorts":null}}`)
		for name, ip := range second {
			Eventually(asking(ctx, world.Outside(), ip.String()+":30080")).Should(Succeed())
			talks[name].partner()
		}
		crowd.isUndisturbed()
	})
})

// sendLoopbackTo has the router send what it has for 127.0.0.0/8 to a node, while f runs.
func sendLoopbackTo(node *cluster.Node, f func()) {
	GinkgoHelper()
	run := func(program, args string) {
		GinkgoHelper()
		_, err := world.Fabric().Run(context.Background(), program, strings.Fields(args)...)
		Expect(err).NotTo(HaveOccurred())
	}
	route := func(change, destination string) {
		GinkgoHelper()
		run("ip", "route "+change+" local "+destination+" dev lo table local proto kernel scope host src 127.0.0.1")
	}
	away := "127.0.0.0/8 via " + node.IPv4.String()
	run("sysctl", "-w net.ipv4.conf.all.route_localnet=1")
	defer run("sysctl", "-w net.ipv4.conf.all.route_localnet=0")
	route("del", "127.0.0.0/8")
	defer route("add", "127.0.0.0/8")
	route("del", "127.0.0.1")
	defer route("add", "127.0.0.1")
	run("ip", "route add "+away)
	defer run("ip", "route del "+away)
	f()
}
