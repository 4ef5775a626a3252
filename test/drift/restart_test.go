package drift

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// kills is how often the agent of each node is killed during a storm.
const kills = 8

// crowd is connections that are held, and others that are opened all the time, from pods and from nodes.
type crowd struct {
	held    traffic.Connections
	streams map[string]*traffic.Stream
}

func gather(ctx context.Context) *crowd {
	GinkgoHelper()
	c := &crowd{streams: map[string]*traffic.Stream{}}
	for _, backend := range backends {
		for from, host := range map[string]*cluster.Host{"a pod on " + backend: pods["client-"+backend].Host, "node " + backend: world.Node(backend).Host} {
			held, err := traffic.Hold(ctx, host, webAddress, 5)
			Expect(err).NotTo(HaveOccurred(), from)
			c.held = append(c.held, held...)
			c.streams[from] = traffic.OpenPatiently(ctx, host, "tcp", webAddress, 10*time.Millisecond, 10*time.Second)
		}
	}
	DeferCleanup(func() {
		c.held.Close()
		for _, s := range c.streams {
			s.Stop()
		}
	})
	return c
}

// undisturbed expects that no connection has failed, and returns how many were opened.
func (c *crowd) undisturbed() int {
	GinkgoHelper()
	Expect(c.held.Broken()).To(Succeed())
	opened := 0
	for from, stream := range c.streams {
		tally := stream.Take()
		Expect(tally.Failed).To(BeZero(), "%s: %s", from, tally)
		opened += tally.Opened
	}
	return opened
}

// storm changes Services at random until it is told to stop, and the settings of the pool now and then. It leaves everything
// as it was.
func storm(ctx context.Context, r *rand.Rand, stop <-chan struct{}) (changes int) {
	defer GinkgoRecover()
	const services = 20
	there := map[string]bool{}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for ; ; changes++ {
		select {
		case <-stop:
			for name := range there {
				Expect(world.Client().Delete(ctx, stormService(name, 0))).To(Succeed())
			}
			kubectl(ctx, "patch", "serviceproxyconfig", "default", "--type=merge", `--patch={"spec":{"masquerade":null}}`)
			return changes
		case <-ticker.C:
		}
		name := fmt.Sprintf("storm-%d", r.IntN(services))
		switch {
		case changes%100 == 50:
			kubectl(ctx, "patch", "serviceproxyconfig", "default", "--type=merge",
				fmt.Sprintf(`--patch={"spec":{"masquerade":{"policy":"All","bit":%d}}}`, 16+r.IntN(8)))
		case there[name]:
			Expect(world.Client().Delete(ctx, stormService(name, 0))).To(Succeed())
			delete(there, name)
		default:
			Expect(world.Client().Create(ctx, stormService(name, 1+r.IntN(1000)))).To(Succeed())
			there[name] = true
		}
	}
}

func stormService(name string, port int) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "web"}, Type: corev1.ServiceTypeNodePort,
		Ports: []corev1.ServicePort{{Port: int32(port), TargetPort: intstr.FromInt32(8080)}},
	}}
}

var _ = Describe("An agent", func() {
	It("that is killed at any moment of a storm disturbs nobody and leaves nothing", func(ctx SpecContext) {
		seed := uint64(GinkgoRandomSeed())
		GinkgoWriter.Printf("seed %d\n", seed)
		before := map[string]string{}
		for _, backend := range backends {
			before[backend] = rules(ctx, backend)
		}
		c := gather(ctx)
		stop, done := make(chan struct{}), make(chan int, 1)
		go func() { done <- storm(ctx, rand.New(rand.NewPCG(seed, 1)), stop) }()
		killed := make(chan struct{}, len(backends))
		for i, backend := range backends {
			r := rand.New(rand.NewPCG(seed, uint64(2+i)))
			go func() {
				defer GinkgoRecover()
				defer func() { killed <- struct{}{} }()
				for range kills {
					select {
					case <-ctx.Done():
						return
					case <-time.After(time.Duration(r.IntN(2_000)) * time.Millisecond):
					}
					setup.Agent(backend).Kill()
					Expect(setup.StartAgent(ctx, world.Node(backend))).To(Succeed())
				}
			}()
		}
		for range backends {
			Eventually(ctx, killed).Should(Receive())
		}
		close(stop)
		changes := 0
		Eventually(ctx, done).Should(Receive(&changes))
		for _, backend := range backends {
			Eventually(func() string { return rules(ctx, backend) }).Should(Equal(before[backend]), "nothing is left of the storm")
			Eventually(func() bool { return isReady(ctx, backend) }).Should(BeTrue())
		}
		opened := c.undisturbed()
		AddReportEntry("killed during a storm", fmt.Sprintf("%d times on each of %d nodes, within %d changes: %d connections opened, none failed",
			kills, len(backends), changes, opened))
		By("writing nothing when it starts again after that")
		for _, backend := range backends {
			setup.Agent(backend).Kill()
			Expect(setup.StartAgent(ctx, world.Node(backend))).To(Succeed())
			Eventually(func() (float64, error) {
				return metric(ctx, backend, "kubeproxy_sync_proxy_rules_last_timestamp_seconds")
			}).Should(BeNumerically(">", 0))
			Expect(metric(ctx, backend, "serviceproxy_chains_written_total")).To(BeZero())
			Expect(rules(ctx, backend)).To(Equal(before[backend]))
		}
		c.undisturbed()
	}, SpecTimeout(5*time.Minute))

	It("of another version takes over from rules of another layout", func(ctx SpecContext) {
		c := gather(ctx)
		for _, backend := range backends {
			before := rules(ctx, backend)
			setup.Agent(backend).Kill()
			for _, family := range []string{"iptables", "ip6tables"} {
				for _, table := range []string{"nat", "filter"} {
					// The names of chains change, those of sets stay.
					run(ctx, backend, fmt.Sprintf("%[1]s-%[2]s-save -t %[3]s | sed 's/SPROXY-/SPROXY-0/g; s/SPROXY-0\\([46]-\\)/SPROXY-\\1/g' | %[1]s-%[2]s-restore",
						family, backend, table))
				}
			}
			older := rules(ctx, backend)
			Expect(strings.Count(older, "SPROXY-0")).To(Equal(strings.Count(before, "SPROXY-") - strings.Count(before, "match-set SPROXY-") - strings.Count(before, "add-set SPROXY-")))
			Expect(asks(ctx, backend)).To(Succeed(), "the older layout serves")
			Expect(setup.StartAgent(ctx, world.Node(backend))).To(Succeed())
			Eventually(func() string { return rules(ctx, backend) }).Should(Equal(before))
		}
		AddReportEntry("another layout of rules", fmt.Sprintf("%d connections opened, none failed", c.undisturbed()))
	}, SpecTimeout(5*time.Minute))
})

// metric is what the agent of a node says of itself.
func metric(ctx context.Context, node, name string) (float64, error) {
	metrics, err := churn.Scrape(ctx, world.Node(node).Host, "http://127.0.0.1:10249/metrics")
	if err != nil {
		return 0, err
	}
	return metrics.Value(name), nil
}
