package ipvs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// listing is the time between two lists of everything, each of which takes long where starting a program does.
const listing = time.Second

// web is the virtual server of the Service.
func web() virtualserver.Key {
	return virtualserver.At(netip.MustParseAddrPort(webAddress), forwarding.TCP)
}

// change changes virtual servers.
func change(fill func(b *virtualserver.Batch, reals []virtualserver.RealState)) func(ctx context.Context) {
	return func(ctx context.Context) {
		GinkgoHelper()
		servers(func(k *virtualserver.Kernel) error {
			state, err := k.Get(ctx, web())
			if err != nil {
				return err
			}
			var b virtualserver.Batch
			fill(&b, state.Real)
			for _, failure := range k.Do(ctx, b) {
				return failure
			}
			return nil
		})
	}
}

// shell runs a script on the node.
func shell(script string) func(ctx context.Context) {
	return func(ctx context.Context) {
		GinkgoHelper()
		run(ctx, script)
	}
}

// held is what the kernel of the node holds of ours.
func held(ctx context.Context) string {
	GinkgoHelper()
	var all []string
	servers(func(k *virtualserver.Kernel) error {
		states, err := k.List(ctx)
		for _, s := range states {
			var reals []string
			for _, r := range s.Real {
				reals = append(reals, fmt.Sprintf("%s*%d", r.Addr, r.Weight))
			}
			slices.Sort(reals)
			all = append(all, fmt.Sprintf("%+v %v", s.Server, reals))
		}
		return err
	})
	for line := range strings.Lines(run(ctx, "iptables-legacy-save; ip6tables-legacy-save; ipset save; "+
		"ip route show table local proto 211; ip -6 route show table local proto 211; "+
		"cat /proc/sys/net/ipv4/vs/conntrack")) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "create") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

var _ = Describe("A node in mode IPVS", func() {
	It("recovers from what somebody else does", func(ctx SpecContext) {
		run(ctx, "ipset create FOREIGN hash:ip; iptables-legacy -t mangle -N FOREIGN; ip route add local 172.29.0.0/16 dev lo")
		DeferCleanup(func(ctx SpecContext) {
			run(ctx, "ipset destroy FOREIGN; iptables-legacy -t mangle -X FOREIGN; ip route del local 172.29.0.0/16 dev lo")
		}, NodeTimeout(5*time.Minute))
		before := held(ctx)
		for _, damage := range []struct {
			name string
			do   func(ctx context.Context)
		}{
			{"a virtual server deleted", change(func(b *virtualserver.Batch, _ []virtualserver.RealState) { b.DeleteServer(web()) })},
			{"weights changed to 0", change(func(b *virtualserver.Batch, reals []virtualserver.RealState) {
				for _, r := range reals {
					b.SetReal(web(), virtualserver.RealServer{Addr: r.Addr})
				}
			})},
			{"a set emptied", shell("ipset flush SPROXYVS-4-POD")},
			{"the route to cluster IPs gone", shell("ip route del local 10.96.0.0/16 dev lo table local proto 211")},
			{"a parameter of the kernel changed", shell("echo 0 >/proc/sys/net/ipv4/vs/conntrack")},
		} {
			By(damage.name)
			Expect(asks(ctx)).To(Succeed())
			start := time.Now()
			damage.do(ctx)
			Eventually(func() string { return held(ctx) }).WithPolling(listing).Should(Equal(before), damage.name)
			AddReportEntry("IPVS: "+damage.name, fmt.Sprintf("recovered in %.2f s", time.Since(start).Seconds()))
			Expect(asks(ctx)).To(Succeed())
		}
	}, SpecTimeout(10*time.Minute))

	It("goes from mode to mode although its agent is killed at any moment", func(ctx SpecContext) {
		seed := uint64(GinkgoRandomSeed())
		r := rand.New(rand.NewPCG(seed, 1))
		before := held(ctx)
		streams := map[string]*traffic.Stream{}
		var connections traffic.Connections
		for from, host := range map[string]string{"a pod": "", "the node": "a"} {
			where := clientPod.Host
			if host != "" {
				where = world.Node(host).Host
			}
			opened, err := traffic.HoldSlowly(ctx, where, webAddress, 3, time.Second, 10*time.Second)
			Expect(err).NotTo(HaveOccurred())
			connections = append(connections, opened...)
			streams[from] = traffic.OpenPatiently(ctx, where, "tcp", webAddress, 50*time.Millisecond, 10*time.Second)
		}
		DeferCleanup(func() {
			connections.Close()
			for _, s := range streams {
				s.Stop()
			}
		})
		modes := []v1alpha1.Mode{v1alpha1.ModeIPTables, v1alpha1.ModeIPVS}
		for _, mode := range modes {
			switchTo(ctx, mode)
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(r.IntN(3_000)) * time.Millisecond):
			}
			setup.Agent("a").Kill()
			Expect(setup.StartAgent(ctx, world.Node("a"))).To(Succeed())
			ready(ctx, mode)
		}
		opened := 0
		for from, s := range streams {
			tally := s.Take()
			Expect(tally.Failed).To(BeZero(), "%s: %s", from, tally)
			opened += tally.Opened
		}
		Expect(connections.Broken()).To(Succeed())
		Eventually(func() string { return held(ctx) }).WithPolling(listing).Should(Equal(before), "nothing is left of the other mode")
		AddReportEntry("killed while the mode changed", fmt.Sprintf("%d times (seed %d), %d connections opened, none failed", len(modes), seed, opened))
	}, SpecTimeout(10*time.Minute))
})
