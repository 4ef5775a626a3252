package ipvs_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

var _ = Describe("An engine", func() {
	It("makes a virtual server for every frontend, and one by mark where classes of clients differ", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, n.update("plain 172.30.0.41 80^3001 vip=1.2.3.4 -> 10.180.0.1/local 10.180.1.1"))
		Expect(serversOfIPv4(ctx)).To(ConsistOf(
			"tcp 172.30.0.41:80 rr 10.180.0.1:80*1 10.180.1.1:80*1",
			"tcp 1.2.3.4:80 rr 10.180.0.1:80*1 10.180.1.1:80*1",
			"tcp 192.168.0.2:3001 rr 10.180.0.1:80*1 10.180.1.1:80*1",
		))
		apply(ctx, e, n.remove("plain 172.30.0.41 80"))
		apply(ctx, e, n.update("local 172.30.0.42 80 vip=1.2.3.4 eTP=Local -> 10.180.0.1/local 10.180.1.1"))
		_, _, err := e.Drain(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(serversOfIPv4(ctx)).To(ConsistOf(
			"tcp 172.30.0.42:80 rr 10.180.0.1:80*1 10.180.1.1:80*1",
			"tcp 1.2.3.4:80 rr 10.180.0.1:80*1",
			"IPv4 mark rr 10.180.0.1:80*1 10.180.1.1:80*1",
			"IPv4 mark rr 10.180.0.1:80*1 10.180.1.1:80*1",
		), "pods and the node itself are spared the limit to local endpoints, and only the node is masqueraded")
	})

	It("writes nothing where another engine has written everything", func(ctx context.Context) {
		n := newNode(ctx)
		apply(ctx, n.start(), append(n.update("a 172.30.0.41 80^3001 vip=1.2.3.4 eTP=Local ranges=203.0.113.0/24 -> 10.180.0.1/local 10.180.1.1"),
			n.update("b 172.30.0.42 80 affinity=100 -> 10.180.0.1")...))
		before := held(ctx)
		Expect(apply(ctx, n.start(), n.everything())).To(Equal(ipvs.Written{}))
		Expect(held(ctx)).To(Equal(before))
	})

	It("sends as many messages for a change whatever the number of Services", func(ctx context.Context) {
		n := newNode(ctx)
		var messages []uint64
		for _, count := range []int{10, 1000} {
			e := n.start()
			for i := range count {
				n.update(fmt.Sprintf("s%d 172.30.%d.%d 80 -> 10.180.0.1", i, i>>8, i&255))
			}
			apply(ctx, e, n.everything())
			before := e.Messages()
			w := apply(ctx, e, n.update("s7 172.30.0.7 80 -> 10.180.0.1 10.180.0.2"))
			Expect(w).To(Equal(ipvs.Written{Servers: 2}), "a real server in each family")
			messages = append(messages, e.Messages()-before)
		}
		Expect(messages).To(Equal([]uint64{2, 2}))
	})

	It("takes new connections away from a real server that leaves, and removes it when it has none", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, n.update("s 172.30.0.41 80 -> 10.180.0.1 10.180.1.1"))
		apply(ctx, e, n.update("s 172.30.0.41 80 -> 10.180.0.1"))
		Expect(serversOfIPv4(ctx)).To(ConsistOf("tcp 172.30.0.41:80 rr 10.180.0.1:80*1 10.180.1.1:80*0"))

		By("starting anew in the middle")
		e = n.start()
		apply(ctx, e, n.everything())
		Expect(serversOfIPv4(ctx)).To(ConsistOf("tcp 172.30.0.41:80 rr 10.180.0.1:80*1 10.180.1.1:80*0"))
		connections, again, err := e.Drain(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(connections).To(BeZero())
		Expect(again).To(BeZero())
		Expect(serversOfIPv4(ctx)).To(ConsistOf("tcp 172.30.0.41:80 rr 10.180.0.1:80*1"))

		By("letting one come back")
		apply(ctx, e, n.update("s 172.30.0.41 80 -> 10.180.1.1"))
		apply(ctx, e, n.update("s 172.30.0.41 80 -> 10.180.0.1 10.180.1.1"))
		Expect(serversOfIPv4(ctx)).To(ConsistOf("tcp 172.30.0.41:80 rr 10.180.0.1:80*1 10.180.1.1:80*1"))
	})

	It("removes a real server of UDP at once", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, n.update("s 172.30.0.41 53/udp -> 10.180.0.1 10.180.1.1"))
		apply(ctx, e, n.update("s 172.30.0.41 53/udp -> 10.180.0.1"))
		Expect(serversOfIPv4(ctx)).To(ConsistOf("udp 172.30.0.41:53 rr 10.180.0.1:53*1"))
	})

	It("follows the addresses of the node", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, n.update("s 172.30.0.41 80^3001 -> 10.180.0.1"))
		e.SetAddresses([]netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("192.168.1.2")})
		apply(ctx, e, nil)
		Expect(serversOfIPv4(ctx)).To(ContainElements("tcp 192.168.0.2:3001 rr 10.180.0.1:80*1", "tcp 192.168.1.2:3001 rr 10.180.0.1:80*1"))
		e.SetAddresses(nil)
		apply(ctx, e, nil)
		_, _, err := e.Drain(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(serversOfIPv4(ctx)).To(ConsistOf("tcp 172.30.0.41:80 rr 10.180.0.1:80*1"))
	})

	It("makes the networks of cluster IPs local, and follows them", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, nil)
		Expect(held(ctx)).To(ContainSubstring("172.30.0.0/16 src 192.168.0.2"))
		n.settings.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("172.31.0.0/16")}
		e.Configure(n.settings)
		apply(ctx, e, nil)
		Expect(held(ctx)).To(And(ContainSubstring("172.31.0.0/16 src 192.168.0.2"), Not(ContainSubstring("172.30.0.0/16"))))
	})

	It("goes over to another bit that asks for masquerading, and leaves nothing of the former", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, slices.Concat(n.update("a 172.30.0.41 80^30001 vip=198.51.100.1 eTP=Local -> 10.180.0.1/local 10.180.1.1"),
			n.update("b 172.30.0.42 80 affinity=100 -> 10.180.0.1")))
		n.settings.MarkBit = 12
		e.Configure(n.settings)
		Expect(apply(ctx, e, nil).Rules.Chains).To(BeNumerically(">", 0))
		Expect(apply(ctx, n.start(), n.everything())).To(Equal(ipvs.Written{}))
	})

	It("goes over to another bit although the agent is another one meanwhile, and masquerades by the former until nothing asks by it", func(ctx context.Context) {
		n := newNode(ctx)
		apply(ctx, n.start(), n.update("a 172.30.0.41 80^30001 vip=198.51.100.1 eTP=Local -> 10.180.0.1/local 10.180.1.1"))
		dir := GinkgoT().TempDir()
		restore, err := exec.LookPath("iptables-legacy-restore")
		Expect(err).NotTo(HaveOccurred())
		written := filepath.Join(dir, "written")
		script := fmt.Sprintf("#!/bin/sh\ntee -a %s | %s \"$@\"\n", written, restore)
		Expect(os.WriteFile(filepath.Join(dir, "iptables-legacy-restore"), []byte(script), 0o700)).To(Succeed())
		GinkgoT().Setenv("PATH", dir+":"+os.Getenv("PATH"))
		n.tools, err = xtables.Probe(ctx)
		Expect(err).NotTo(HaveOccurred())
		n.settings.MarkBit = 12
		apply(ctx, n.start(), n.everything())
		text, err := os.ReadFile(written)
		Expect(err).NotTo(HaveOccurred())
		const byBoth = "-A SPROXYVS-POSTROUTING -m mark --mark 0x4000/0x4000 -j MARK --set-xmark 0x1000/0x1000\n"
		Expect(string(text)).To(ContainSubstring(byBoth))
		Expect(run("iptables-legacy-save")).NotTo(ContainSubstring("0x4000"))
		Expect(apply(ctx, n.start(), n.everything())).To(Equal(ipvs.Written{}))
	})

	It("leaves a virtual server of somebody else alone, and says so", func(ctx context.Context) {
		n := newNode(ctx)
		foreign := newForeign(ctx)
		before := held(ctx)
		e := n.start()
		apply(ctx, e, n.update("s 172.30.0.99 80 -> 10.180.0.1"))
		Expect(serversOfIPv4(ctx)).To(ContainElement(foreign))
		problems := e.Problems()
		Expect(problems).To(HaveLen(1))
		Expect(problems[0].Port.Service.Name).To(Equal("s"))
		Expect(problems[0].Message).To(ContainSubstring("172.30.0.99:80"))
		Expect(ipvs.Cleanup(ctx)).To(Succeed())
		Expect(held(ctx)).To(Equal(before))
	})

	It("makes no virtual server where spec.ipvs.excludeCIDRs says so, and says that it did not", func(ctx context.Context) {
		n := newNode(ctx)
		n.settings.ExcludeCIDRs = []netip.Prefix{netip.MustParsePrefix("172.30.0.0/28")}
		e := n.start()
		apply(ctx, e, append(n.update("in 172.30.0.7 80 -> 10.180.0.1"), n.update("out 172.30.0.41 80 -> 10.180.0.1")...))
		Expect(serversOfIPv4(ctx)).To(ConsistOf("tcp 172.30.0.41:80 rr 10.180.0.1:80*1"))
		Expect(e.Problems()).To(HaveLen(1))
		Expect(e.Problems()[0].Message).To(ContainSubstring("172.30.0.7:80"))
	})

	It("repairs what somebody else has changed, and counts it", func(ctx context.Context) {
		n := newNode(ctx)
		e := n.start()
		apply(ctx, e, n.update("s 172.30.0.41 80 vip=1.2.3.4 -> 10.180.0.1"))
		before := held(ctx)
		for _, harm := range [][]string{
			{"iptables-legacy", "-t", "mangle", "-F"}, {"iptables-legacy", "-t", "filter", "-F"}, {"iptables-legacy", "-t", "nat", "-F"},
			{"ipset", "flush", "SPROXYVS-4-REMOTE"}, {"ip", "route", "flush", "table", "local", "172.30.0.0/16"},
			{"ip", "route", "flush", "table", "local", "1.2.3.4"},
		} {
			run(harm[0], harm[1:]...)
			w, err := e.Verify(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(w.Changes()).To(BeNumerically(">", 0), "%v", harm)
			Expect(held(ctx)).To(Equal(before), "%v", harm)
		}
		w, err := e.Verify(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(w).To(Equal(ipvs.Written{}))
	})

	It("retires without a trace, also when it was another agent's", func(ctx context.Context) {
		n := newNode(ctx)
		newForeign(ctx)
		before := held(ctx)
		apply(ctx, n.start(), n.update("s 172.30.0.41 80^3001 vip=1.2.3.4 eTP=Local -> 10.180.0.1/local 10.180.1.1"))
		r, err := ipvs.Retire(ctx, n.tools, n.clock, time.Hour)
		Expect(err).NotTo(HaveOccurred())
		connections, again, err := r.Step(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(connections).To(BeZero())
		Expect(again).To(BeZero())
		Expect(held(ctx)).To(Equal(before))
	})
})
