package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// web is a pod that serves TCP and UDP, and that the Service of webService selects.
func web(name, node string) cluster.PodSpec {
	return cluster.PodSpec{
		Name: name, Node: node, Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8080},
			{Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP},
		},
	}
}

func webService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector:       map[string]string{"app": "web"},
			IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
			Ports:          []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
}

var _ = Describe("A cluster", Ordered, func() {
	var (
		c          *cluster.Cluster
		onA, alsoA *cluster.Pod
		onB, hostB *cluster.Pod
	)

	BeforeAll(func(ctx SpecContext) {
		var err error
		c, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"a", "b"}})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() error { return c.Stop() })
		Expect(c.Client().Create(ctx, webService())).To(Succeed())
		hostNetwork := web("host-b", "b")
		hostNetwork.HostNetwork, hostNetwork.Labels = true, nil
		pods, err := c.RunPods(ctx, web("on-a", "a"), web("also-a", "a"), web("on-b", "b"), hostNetwork)
		Expect(err).NotTo(HaveOccurred())
		onA, alsoA, onB, hostB = pods[0], pods[1], pods[2], pods[3]
	}, NodeTimeout(startTimeout))

	It("has a control plane that answers and nodes that are ready", func(ctx SpecContext) {
		var nodes corev1.NodeList
		Expect(c.Client().List(ctx, &nodes)).To(Succeed())
		Expect(nodes.Items).To(HaveLen(2))
		Expect(nodes.Items[0].Spec.PodCIDRs).To(Equal([]string{"10.244.1.0/24", "fd00:10:244:1::/64"}))
		Expect(nodes.Items[0].Spec.Taints).To(BeEmpty())

		out, err := c.Kubectl(ctx, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=10s")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(ContainSubstring("node/b condition met"))

		_, err = c.KubectlApply(ctx, "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n")
		Expect(err).To(MatchError(ContainSubstring(`no matches for kind "Nonsense"`)))
	})

	It("gets EndpointSlices for a Service as its pods come, go, and change", func(ctx SpecContext) {
		Expect(c.WaitForEndpoints(ctx, "default", "web", 3)).To(Succeed())

		var found discoveryv1.EndpointSliceList
		Expect(c.Client().List(ctx, &found, client.InNamespace("default"),
			client.MatchingLabels{discoveryv1.LabelServiceName: "web"})).To(Succeed())
		Expect(found.Items).To(ContainElements(
			HaveField("AddressType", discoveryv1.AddressTypeIPv4), HaveField("AddressType", discoveryv1.AddressTypeIPv6)))
		for _, slice := range found.Items {
			Expect(slice.Ports).To(HaveExactElements(HaveField("Port", HaveValue(BeEquivalentTo(8080)))))
			for _, endpoint := range slice.Endpoints {
				Expect(endpoint.Zone).To(HaveValue(HavePrefix("zone-")))
			}
		}

		late := web("late", "b")
		late.NotReady = true
		pod, err := c.RunPod(ctx, late)
		Expect(err).NotTo(HaveOccurred())
		endpoint := endpointOf(c, pod)
		Eventually(endpoint).WithContext(ctx).Should(HaveField("Ready", HaveValue(BeFalse())))
		Expect(pod.SetReady(ctx, true)).To(Succeed())
		Expect(c.WaitForEndpoints(ctx, "default", "web", 4)).To(Succeed())

		Expect(pod.Terminate(ctx)).To(Succeed())
		Eventually(endpoint).WithContext(ctx).Should(And(
			HaveField("Ready", HaveValue(BeFalse())),
			HaveField("Serving", HaveValue(BeTrue())),
			HaveField("Terminating", HaveValue(BeTrue()))))
		Expect(c.Outside().Ask(ctx, "tcp", httpOf(pod.IPv4))).To(HaveField("Pod", "late"))

		Expect(pod.Delete(ctx)).To(Succeed())
		Expect(pod.Delete(ctx)).To(Succeed(), "again")
		Expect(c.WaitForEndpoints(ctx, "default", "web", 3)).To(Succeed())
		Eventually(endpoint).WithContext(ctx).Should(BeNil())
	})

	DescribeTable("lets hosts reach pods, in both families, by TCP and UDP, without translation",
		func(ctx SpecContext, from func() *cluster.Host, to func() *cluster.Pod) {
			for i, address := range to().Addresses() {
				reply, err := from().Ask(ctx, "tcp", netip.AddrPortFrom(address, 8080).String())
				Expect(err).NotTo(HaveOccurred())
				Expect(reply.Pod).To(Equal(to().Name))
				if from() != to().Node.Host { // A node has an address in the network of its pods, too.
					Expect(reply.Client.Addr()).To(Equal(from().Addresses()[i]))
				}
				Expect(from().Ask(ctx, "udp", netip.AddrPortFrom(address, 5353).String())).To(HaveField("Pod", to().Name))
			}
		},
		Entry("pod to itself", func() *cluster.Host { return onA.Host }, func() *cluster.Pod { return onA }),
		Entry("pod to pod of its node", func() *cluster.Host { return onA.Host }, func() *cluster.Pod { return alsoA }),
		Entry("pod to pod of another node", func() *cluster.Host { return onA.Host }, func() *cluster.Pod { return onB }),
		Entry("pod to another node", func() *cluster.Host { return onA.Host }, func() *cluster.Pod { return hostB }),
		Entry("node to its pod", func() *cluster.Host { return c.Node("a").Host }, func() *cluster.Pod { return onA }),
		Entry("node to pod of another node", func() *cluster.Host { return c.Node("a").Host }, func() *cluster.Pod { return onB }),
		Entry("node to node", func() *cluster.Host { return c.Node("a").Host }, func() *cluster.Pod { return hostB }),
		Entry("outside to node", func() *cluster.Host { return c.Outside() }, func() *cluster.Pod { return hostB }),
		Entry("outside to pod", func() *cluster.Host { return c.Outside() }, func() *cluster.Pod { return onB }),
		Entry("control plane to pod", func() *cluster.Host { return c.ControlPlane() }, func() *cluster.Pod { return onB }),
	)

	It("leaves Service addresses to the proxy under test", func(ctx SpecContext) {
		for _, from := range []*cluster.Host{onA.Host, c.Node("a").Host, c.Outside()} {
			_, err := from.Ask(ctx, "tcp", "10.96.0.1:443")
			Expect(err).To(MatchError(Or(ContainSubstring("unreachable"), ContainSubstring("no route"))), from.Name)
		}
	})

	It("routes what comes from outside via a node on request", func(ctx SpecContext) {
		for _, prefix := range []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")} {
			address := prefix.Addr().Next().Next()
			listener := listenAt(ctx, c.Node("a").Host, address)
			Expect(c.RouteVia(c.Node("a"), prefix)).To(Succeed())
			conn, err := c.Outside().Dial(ctx, "tcp", listener.Addr().String())
			Expect(err).NotTo(HaveOccurred())
			Expect(conn.Close()).To(Succeed())

			_, err = c.Node("b").Dial(ctx, "tcp", listener.Addr().String())
			Expect(err).To(HaveOccurred(), "the route is for the outside alone")

			Expect(c.Unroute(prefix)).To(Succeed())
			_, err = c.Outside().Dial(ctx, "tcp", listener.Addr().String())
			Expect(err).To(HaveOccurred())
		}
	})

	It("gives processes on nodes access to the API server, as administrator or as a service account", func(ctx SpecContext) {
		cache, err := binaries.Open()
		Expect(err).NotTo(HaveOccurred())
		kubectl, err := cache.Find(binaries.Kubectl)
		Expect(err).NotTo(HaveOccurred())
		dir, err := c.Node("a").Dir()
		Expect(err).NotTo(HaveOccurred())

		Expect(c.Node("a").Run(ctx, kubectl, "--cache-dir="+dir, "--kubeconfig="+c.NodeKubeconfig(), "get", "nodes")).
			To(ContainSubstring("Ready"))

		limited, err := c.ServiceAccountKubeconfig(ctx, "default", "default")
		Expect(err).NotTo(HaveOccurred())
		Expect(onB.Run(ctx, kubectl, "--cache-dir="+dir, "--kubeconfig="+limited, "auth", "whoami")).
			To(ContainSubstring("system:serviceaccount:default:default"))
		_, err = onB.Run(ctx, kubectl, "--cache-dir="+dir, "--kubeconfig="+limited, "get", "nodes")
		Expect(err).To(MatchError(ContainSubstring("forbidden")))
	})

	It("keeps data and connections while the API server is away", func(ctx SpecContext) {
		held, err := onA.Dial(ctx, "tcp", httpOf(onB.IPv4))
		Expect(err).NotTo(HaveOccurred())
		defer func() { _ = held.Close() }()
		Expect(cluster.Greeting(ctx, held)).To(HaveField("Pod", "on-b"))

		Expect(c.StopAPIServer(ctx)).To(Succeed())
		_, err = c.Kubectl(ctx, "get", "nodes", "--request-timeout=2s")
		Expect(err).To(HaveOccurred())
		Expect(echo(held, "still there")).To(Equal("still there"))

		Expect(c.StartAPIServer(ctx)).To(Succeed())
		Expect(c.Kubectl(ctx, "get", "pods", "--output=name")).To(ContainSubstring("pod/on-b"))
		Expect(echo(held, "and there")).To(Equal("and there"))
		pod, err := c.RunPod(ctx, web("after", "a"))
		Expect(err).NotTo(HaveOccurred())
		Expect(c.WaitForEndpoints(ctx, "default", "web", 4)).To(Succeed(), "the controllers are back")
		Expect(pod.Delete(ctx)).To(Succeed())
	}, SpecTimeout(5*time.Minute))

	It("grows and shrinks by nodes", func(ctx SpecContext) {
		for range 2 {
			node, err := c.AddNode(ctx, "third")
			Expect(err).NotTo(HaveOccurred())
			pod, err := c.RunPod(ctx, web("on-third", "third"))
			Expect(err).NotTo(HaveOccurred())
			for _, address := range pod.Addresses() {
				Expect(onB.Ask(ctx, "tcp", httpOf(address))).To(HaveField("Pod", "on-third"))
			}
			Expect(c.Nodes()).To(ContainElement(node))

			Expect(c.RemoveNode(ctx, "third")).To(Succeed())
			Expect(c.Node("third")).To(BeNil())
			err = c.Client().Get(ctx, client.ObjectKey{Name: "third"}, &corev1.Node{})
			Expect(apierrors.IsNotFound(err)).To(BeTrue())
		}
		_, err := c.AddNode(ctx, "a")
		Expect(err).To(MatchError(ContainSubstring("the name is taken")))
		_, err = c.AddNode(ctx, "Not A Name")
		Expect(err).To(HaveOccurred())
	})

	It("runs hundreds of pods", func(ctx SpecContext) {
		var specs []cluster.PodSpec
		for i := range 200 {
			specs = append(specs, web(fmt.Sprintf("many-%d", i), []string{"a", "b"}[i%2]))
		}
		began := time.Now()
		pods, err := c.RunPods(ctx, specs...)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("200 pods", time.Since(began))
		Expect(c.WaitForEndpoints(ctx, "default", "web", 203)).To(Succeed())
		for _, pod := range pods {
			Expect(c.Outside().Ask(ctx, "tcp", httpOf(pod.IPv6))).To(HaveField("Pod", pod.Name))
		}
		began = time.Now()
		Expect(cluster.DeletePods(ctx, pods...)).To(Succeed())
		AddReportEntry("and to delete them", time.Since(began))
	}, SpecTimeout(8*time.Minute))
})

var _ = Describe("A host", Ordered, func() {
	var c *cluster.Cluster
	var node *cluster.Node

	BeforeAll(func(ctx SpecContext) {
		var err error
		c, err = cluster.Start(ctx, cluster.Options{
			Nodes: []string{"only"}, IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol},
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() error { return c.Stop() })
		node = c.Node("only")
	}, NodeTimeout(startTimeout))

	It("has the addresses of the families of its cluster alone", func(ctx SpecContext) {
		Expect(node.Addresses()).To(HaveExactElements(netip.MustParseAddr("fd77::11")))
		pod, err := c.RunPod(ctx, web("six", "only"))
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Outside().Ask(ctx, "tcp", httpOf(pod.IPv6))).To(HaveField("Pod", "six"))
	})

	It("runs programs in its network, with their output and their failures", func(ctx SpecContext) {
		Expect(node.Run(ctx, "cat", "/proc/thread-self/net/dev")).To(ContainSubstring("cni0:"))
		Expect(node.RunInput(ctx, "a line", "cat")).To(Equal("a line"))
		_, err := node.Run(ctx, "sh", "-c", "echo it broke >&2; exit 3")
		Expect(err).To(MatchError(And(ContainSubstring("exit status 3"), ContainSubstring("it broke"))))
		_, err = node.Run(ctx, "no-such-program")
		Expect(err).To(HaveOccurred())

		brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err = node.Run(brief, "sleep", "60")
		Expect(err).To(MatchError(context.DeadlineExceeded))
	})

	It("runs processes until they end or are stopped", func(ctx SpecContext) {
		p, err := node.Start(cluster.ProcessSpec{Path: "sh", Args: []string{"-c", "echo $GREETING; exec sleep 60"},
			Env: []string{"GREETING=hello"}, Name: "sleeper"})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() string { return p.Tail(1) }).Should(Equal("hello"))
		Expect(p.LogFile()).To(HaveSuffix("/only-sleeper.log"))
		Expect(p.Stop(ctx)).To(Succeed())
		Expect(p.Done()).To(BeClosed())
		Expect(p.Signal(syscall.SIGTERM)).To(MatchError(os.ErrProcessDone))

		p, err = node.Start(cluster.ProcessSpec{Path: "sh", Args: []string{"-c", "echo last words; exit 4"}})
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Wait(ctx)).To(MatchError(And(ContainSubstring("exit status 4"), ContainSubstring("last words"))))
	})

	It("keeps sysctls to itself, and gives threads back", func() {
		const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"
		before, err := os.ReadFile(forwarding)
		Expect(err).NotTo(HaveOccurred())
		Expect(node.Do(func() error { return os.WriteFile(forwarding, []byte("0"), 0) })).To(Succeed())
		Expect(os.ReadFile(forwarding)).To(Equal(before))
		Expect(node.Do(func() error { return os.WriteFile(forwarding, []byte("1"), 0) })).To(Succeed())

		Expect(func() { _ = node.Do(func() error { panic("on purpose") }) }).To(PanicWith("on purpose"))
		for range 100 {
			_, err := net.InterfaceByName("cni0")
			Expect(err).To(HaveOccurred())
		}
	})
})

// httpOf is where a pod of web serves TCP.
func httpOf(address netip.Addr) string { return netip.AddrPortFrom(address, 8080).String() }

// endpointOf returns a function that reads the conditions of a pod's endpoint, nil if it has none.
func endpointOf(c *cluster.Cluster, pod *cluster.Pod) func(context.Context) *discoveryv1.EndpointConditions {
	return func(ctx context.Context) *discoveryv1.EndpointConditions {
		var found discoveryv1.EndpointSliceList
		Expect(c.Client().List(ctx, &found, client.InNamespace(pod.Namespace))).To(Succeed())
		for _, slice := range found.Items {
			for _, endpoint := range slice.Endpoints {
				if endpoint.TargetRef != nil && endpoint.TargetRef.Name == pod.Name {
					return &endpoint.Conditions
				}
			}
		}
		return nil
	}
}

// listenAt gives a host an address and listens there.
func listenAt(ctx context.Context, h *cluster.Host, address netip.Addr) net.Listener {
	GinkgoHelper()
	Expect(h.AddAddress(address)).To(Succeed())
	listener, err := h.Listen(ctx, "tcp", httpOf(address))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(listener.Close)
	return listener
}

// echo sends a line on a connection and returns the line that comes back.
func echo(conn net.Conn, line string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", err
	}
	scanner := bufio.NewScanner(conn)
	scanner.Scan()
	return scanner.Text(), scanner.Err()
}
