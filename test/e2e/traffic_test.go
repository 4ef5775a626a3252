package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// crowd is everybody who talks to Service web: streams of new connections and datagrams, and held connections, from pods,
// nodes and outside, in both families, through both backends.
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
	for _, name := range []string{nft, legacy} {
		client, node, outside := pods["client-"+name].Host, world.Node(name).Host, world.Outside()
		for _, f := range []family{ipv4, ipv6} {
			ip := address(ctx, "web", 80, f)
			c.streams = append(c.streams,
				traffic.Open(ctx, client, "tcp", ip, every),
				traffic.Open(ctx, outside, "tcp", f.on(node, 30080), every))
			for from, to := range map[*cluster.Host]string{client: ip, outside: f.on(node, 30080)} {
				held, err := traffic.Hold(ctx, from, to, 6)
				Expect(err).NotTo(HaveOccurred())
				c.held = append(c.held, held...)
			}
		}
		c.streams = append(c.streams,
			traffic.Open(ctx, node, "tcp", address(ctx, "web", 80, ipv4), every),
			traffic.Open(ctx, client, "udp", address(ctx, "web", 53, ipv4), every))
	}
	return c
}

// take returns what became of everything new since the last take.
func (c *crowd) take() traffic.Tally {
	tallies := make([]traffic.Tally, 0, len(c.streams))
	for _, s := range c.streams {
		tallies = append(tallies, s.Take())
	}
	return traffic.Sum(tallies...)
}

func (c *crowd) leave() {
	for _, s := range c.streams {
		s.Stop()
	}
	c.held.Close()
}

// isUndisturbed expects that nothing new failed and nothing held broke, but connections to pods that are gone.
func (c *crowd) isUndisturbed(gone ...string) {
	GinkgoHelper()
	tally := c.take()
	GinkgoWriter.Println(tally, "held:", len(c.held))
	Expect(tally.Opened).To(BeNumerically(">", 0))
	Expect(tally.Failed).To(BeZero(), tally.String())
	Expect(c.held.Broken(gone...)).To(Succeed())
}

// goesOn lets time pass.
func goesOn(ctx context.Context, d time.Duration) {
	GinkgoHelper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		Fail("interrupted")
	}
}

// areLeft waits until no node leads anybody to pods any more.
func areLeft(ctx context.Context, pods ...*cluster.Pod) {
	GinkgoHelper()
	for _, node := range world.Nodes() {
		for _, pod := range pods {
			Eventually(rulesOf).WithArguments(ctx, node).ShouldNot(MatchRegexp(`--to-destination (%s|\[%s\]):`, pod.IPv4, pod.IPv6))
		}
	}
}

// leave has pods go as they should: they terminate, nobody is led to them any more, and then they end. Flows of UDP to a pod stay
// as long as it serves, and a datagram from the port of an earlier one follows them; so that none does when the pod has ended
// and its nodes have not been told yet, they are forgotten before.
func leave(ctx context.Context, pods ...*cluster.Pod) {
	GinkgoHelper()
	for _, pod := range pods {
		Expect(pod.Terminate(ctx)).To(Succeed())
	}
	areLeft(ctx, pods...)
	for _, pod := range pods {
		Expect(traffic.Forget(ctx, world, pod)).To(Succeed())
		Expect(pod.Delete(ctx)).To(Succeed())
	}
}

var _ = Describe("Connections that are held, and new ones all the time", func() {
	It("are undisturbed while pods come and go", func(ctx context.Context) {
		crowd := gather(ctx)
		var gone []string
		for round := range 3 {
			var specs []cluster.PodSpec
			for _, node := range []string{nft, legacy} {
				specs = append(specs, webPod(fmt.Sprintf("guest-%s-%d", node, round), node))
			}
			guests, err := world.RunPods(ctx, specs...)
			Expect(err).NotTo(HaveOccurred())
			// New connections reach them, so some of those that are held from now on do too.
			for _, guest := range guests {
				Eventually(func() string {
					return answer(ctx, pods["client-nft"].Host, "tcp", address(ctx, "web", 80, ipv4)).Pod
				}).WithPolling(time.Millisecond).Should(Equal(guest.Name))
			}
			for _, guest := range guests {
				gone = append(gone, guest.Name)
			}
			leave(ctx, guests...)
			crowd.isUndisturbed(gone...)
		}
	})

	It("are disturbed by a pod that crashes no longer than nodes need to follow", func(ctx context.Context) {
		guests, err := world.RunPods(ctx, webPod("crash-1", nft), webPod("crash-2", legacy))
		Expect(err).NotTo(HaveOccurred())
		Expect(world.WaitForEndpoints(ctx, "default", "web", 6)).To(Succeed())
		goesOn(ctx, 300*time.Millisecond)
		crowd := gather(ctx)
		for _, guest := range guests {
			Expect(guest.Delete(ctx)).To(Succeed())
		}
		areLeft(ctx, guests...)
		for _, guest := range guests {
			Expect(traffic.Forget(ctx, world, guest)).To(Succeed())
		}
		crowd.take()
		goesOn(ctx, time.Second)
		crowd.isUndisturbed("crash-1", "crash-2")
	})

	It("are undisturbed while agents are killed and start again, with other endpoints than before", func(ctx context.Context) {
		crowd := gather(ctx)
		setup.Agent(nft).Kill()
		setup.Agent(legacy).Kill()
		guest, err := world.RunPod(ctx, webPod("late", nft))
		Expect(err).NotTo(HaveOccurred())
		Expect(world.WaitForEndpoints(ctx, "default", "web", 5)).To(Succeed())
		for _, node := range []string{nft, legacy} {
			Expect(setup.StartAgent(ctx, world.Node(node))).To(Succeed())
			Eventually(func() string {
				return answer(ctx, pods["client-"+node].Host, "tcp", address(ctx, "web", 80, ipv4)).Pod
			}).WithPolling(time.Millisecond).Should(Equal("late"))
		}
		leave(ctx, guest)
		crowd.isUndisturbed("late")
		Eventually(configReady(ctx, "default")).Should(Equal("True/AllNodesReady"))
	})

	It("are undisturbed while the API server is away, even for an agent that starts meanwhile", func(ctx context.Context) {
		crowd := gather(ctx)
		Expect(world.StopAPIServer(ctx)).To(Succeed())
		setup.Agent(nft).Kill()
		Expect(setup.StartAgent(ctx, world.Node(nft))).To(Succeed())
		goesOn(ctx, 3*time.Second)
		crowd.isUndisturbed()
		Expect(world.StartAPIServer(ctx)).To(Succeed())
		crowd.isUndisturbed()
		select {
		case <-setup.Operator().Done(): // It ends when it cannot renew its lease; a Deployment starts it again.
			Expect(setup.StartOperator(ctx)).To(Succeed())
		default:
		}

		By("following again when it is back")
		guest, err := world.RunPod(ctx, webPod("after", legacy))
		Expect(err).NotTo(HaveOccurred())
		for _, node := range []string{nft, legacy} {
			Eventually(func() string {
				return answer(ctx, pods["client-"+node].Host, "tcp", address(ctx, "web", 80, ipv4)).Pod
			}).WithTimeout(time.Minute).WithPolling(time.Millisecond).Should(Equal("after"))
		}
		leave(ctx, guest)
		crowd.isUndisturbed("after")
	})
})
