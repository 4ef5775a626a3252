package modeswitch

import (
	"context"
	"errors"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// The pace of traffic, and how long an answer may take, on a kernel with one CPU that starts programs slowly. A connection
// that is refused or broken fails at once all the same.
const (
	beat     = time.Second
	patience = 10 * time.Second
	rowTime  = 200 * time.Millisecond
	arrears  = 5 * time.Second
)

// leastOpened is how many new connections there are at least while nodes change their modes ten times: far fewer than on
// any machine, and far more than none.
const leastOpened = 1_000

// crowd is connections that are held and streams of new ones, from everywhere that a node sees clients come from.
type crowd struct {
	held    traffic.Connections
	streams map[string]*traffic.Stream
}

// gather opens 50 connections to hold, and 200 new ones a second.
func gather(ctx context.Context) *crowd {
	GinkgoHelper()
	a, b, outside := world.Node("a").Host, world.Node("b").Host, world.Outside()
	c := &crowd{streams: map[string]*traffic.Stream{}}
	// Each speaks to one Service on one node: IPVS mistakes connections for each other that come from one port of one client
	// and go to one backend through two addresses (docs/behaviour.md).
	for _, from := range []struct {
		name    string
		host    *cluster.Host
		held    int
		network string
		address string
		rate    int
	}{
		{"a pod, to a cluster IP", pods["client-a"].Host, 15, "tcp", clusterIP(ctx, "web", "80"), 40},
		{"a node, to a cluster IP", a, 10, "tcp", clusterIP(ctx, "web", "80"), 40},
		{"outside, to a node port", outside, 10, "tcp", nodePort("a", "30080"), 40},
		{"outside, to a node port of local endpoints", outside, 5, "tcp", nodePort("b", "30081"), 20},
		{"a pod, to a node port of local endpoints", pods["client-b"].Host, 5, "tcp", nodePort("b", "30081"), 20},
		{"a node, to its node port of local endpoints", b, 5, "tcp", nodePort("b", "30081"), 20},
		{"a pod, datagrams", pods["client-a"].Host, 0, "udp", clusterIP(ctx, "dns", "53"), 20},
	} {
		held, err := traffic.HoldSlowly(ctx, from.host, from.address, from.held, beat, patience)
		Expect(err).NotTo(HaveOccurred(), from.name)
		c.held = append(c.held, held...)
		c.streams[from.name] = traffic.OpenAt(ctx, from.host, from.network, from.address, traffic.Pace{
			Every: rowTime, Row: from.rate * int(rowTime) / int(time.Second), Arrears: arrears, Patience: patience,
		})
	}
	DeferCleanup(func() {
		c.held.Close()
		for _, s := range c.streams {
			s.Stop()
		}
	})
	return c
}

// undisturbed expects that nothing has failed since the last time, and returns what was opened.
func (c *crowd) undisturbed(when string) traffic.Tally {
	GinkgoHelper()
	Expect(c.held.Broken()).To(Succeed(), when)
	var all []traffic.Tally
	for name, stream := range c.streams {
		tally := stream.Take()
		Expect(tally.Failed).To(BeZero(), "%s: %s: %s", when, name, tally)
		Expect(tally.Opened).NotTo(BeZero(), "%s: %s", when, name)
		all = append(all, tally)
	}
	sum := traffic.Sum(all...)
	GinkgoWriter.Printf("%s: %.0f a second: %s\n", when, float64(sum.Opened)/time.Since(sum.Since).Seconds(), sum)
	return sum
}

var _ = Describe("A live node", func() {
	It("goes from mode to mode five times without a connection that breaks or is refused", func(ctx SpecContext) {
		c := gather(ctx)
		Expect(c.held).To(HaveLen(50))
		start, opened := time.Now(), 0
		for range 5 {
			By("going to IPVS and back")
			change(ctx, v1alpha1.ModeIPVS)
			beats(c)
			opened += c.undisturbed("to IPVS").Opened
			change(ctx, v1alpha1.ModeIPTables)
			beats(c)
			opened += c.undisturbed("to iptables").Opened
		}
		AddReportEntry("new connections", fmt.Sprintf("%d, %.0f a second, none failed", opened, float64(opened)/time.Since(start).Seconds()))
		Expect(opened).To(BeNumerically(">", leastOpened))
	}, SpecTimeout(35*time.Minute))

	It("gives a client of a Service with affinity one backend in each mode, and keeps what is open", func(ctx SpecContext) {
		sticky := clusterIP(ctx, "sticky", "80")
		held, err := traffic.HoldSlowly(ctx, pods["client-a"].Host, sticky, 3, beat, patience)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(held.Close)
		for _, mode := range []v1alpha1.Mode{v1alpha1.ModeIPTables, v1alpha1.ModeIPVS, v1alpha1.ModeIPTables} {
			change(ctx, mode)
			backends := map[string]bool{}
			for range 20 {
				reply, err := pods["client-a"].Ask(ctx, "tcp", sticky)
				Expect(err).NotTo(HaveOccurred())
				backends[reply.Pod] = true
			}
			Expect(backends).To(HaveLen(1), "%s", mode)
			Expect(held.Broken()).To(Succeed(), "%s", mode)
		}
	}, SpecTimeout(10*time.Minute))

	It("says how many connections are still in the mode that it has left, until the last one ends or their time is over", func(ctx SpecContext) {
		patch(ctx, `{"spec":{"mode":"IPVS","ipvs":{"drainTimeoutSeconds":30}}}`)
		ready(ctx, v1alpha1.ModeIPVS)
		held, err := traffic.HoldSlowly(ctx, pods["client-a"].Host, clusterIP(ctx, "web", "80"), 3, beat, patience)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(held.Close)
		patch(ctx, `{"spec":{"mode":"iptables","ipvs":null}}`)
		ready(ctx, v1alpha1.ModeIPTables)
		draining := func() string {
			status := statusOf(ctx, "a")
			return fmt.Sprint(ptr.Deref(status.Draining, 0) > 0, meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionDraining))
		}
		Eventually(draining).Should(Equal("true true"))
		Expect(held.Broken()).To(Succeed())
		Expect(virtualServers(ctx, "a")).NotTo(BeEmpty())
		Eventually(draining).Should(Equal("false false"))
		Expect(virtualServers(ctx, "a")).To(BeEmpty())
	}, SpecTimeout(10*time.Minute))
})

var _ = Describe("A node in mode IPVS", func() {
	It("has nothing of ours after a cleanup, and everything of others", func(ctx SpecContext) {
		b := world.Node("b")
		foreign := [][]string{
			{"iptables-legacy", "-t", "mangle", "-N", "FOREIGN"},
			{"iptables-legacy", "-t", "mangle", "-A", "INPUT", "-j", "FOREIGN"},
			{"ipset", "create", "FOREIGN", "hash:ip"},
			{"ip", "route", "add", "local", "172.29.0.0/16", "dev", "lo"},
		}
		for _, command := range foreign {
			_, err := b.Run(ctx, command[0], command[1:]...)
			Expect(err).NotTo(HaveOccurred())
		}
		change(ctx, v1alpha1.ModeIPVS)
		Expect(leftovers(ctx, b)).NotTo(BeEmpty())
		setup.Agent("b").Kill()
		DeferCleanup(func(ctx SpecContext) {
			Expect(setup.StartAgent(ctx, b)).To(Succeed())
			change(ctx, v1alpha1.ModeIPTables)
		}, NodeTimeout(8*time.Minute))
		_, err := b.Run(ctx, root+"/bin/agent", "cleanup")
		Expect(err).NotTo(HaveOccurred())
		Expect(leftovers(ctx, b)).To(BeEmpty())
		Expect(virtualServers(ctx, "b")).To(BeEmpty())
		for _, kept := range [][]string{
			{"iptables-legacy", "-t", "mangle", "-C", "INPUT", "-j", "FOREIGN"}, {"ipset", "list", "FOREIGN"},
			{"sh", "-c", "ip route show table local | grep 172.29.0.0/16"},
		} {
			_, err := b.Run(ctx, kept[0], kept[1:]...)
			Expect(err).NotTo(HaveOccurred(), "%v", kept)
		}
	}, SpecTimeout(10*time.Minute))
})

// leftovers are the rules, sets and routes of ours on a node.
func leftovers(ctx context.Context, node *cluster.Node) string {
	GinkgoHelper()
	out, err := node.Run(ctx, "sh", "-c", "{ iptables-legacy-save; ip6tables-legacy-save; ipset list -n; } | grep SPROXY; "+
		"ip route show table local proto 211; ip -6 route show table local proto 211; true")
	Expect(err).NotTo(HaveOccurred())
	return out
}

// beats waits until every held connection has been used a few times more.
func beats(c *crowd) {
	GinkgoHelper()
	before := map[*traffic.Connection]int{}
	for _, held := range c.held {
		before[held] = held.Beats()
	}
	Eventually(func() bool {
		for held, n := range before {
			if held.Err() == nil && held.Beats() < n+3 {
				return false
			}
		}
		return true
	}).Should(BeTrue())
}

// virtualServers are those that IPVS has on a node. /proc/net/ip_vs is no help: it loses its place where several network
// namespaces have some.
func virtualServers(ctx context.Context, node string) []virtualserver.State {
	GinkgoHelper()
	var servers []virtualserver.State
	Expect(world.Node(node).Do(func() (err error) {
		kernel, err := virtualserver.Open()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, kernel.Close()) }()
		servers, err = kernel.List(ctx)
		return err
	})).To(Succeed())
	return servers
}
