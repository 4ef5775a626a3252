package virtualserver_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

var _ = Describe("Forget", func() {
	DescribeTable("keeps what was opened since, by rules of netfilter, from the port of a connection that has ended",
		func(ctx context.Context, iptables, client, to, former, now string) {
			enterNamespace(slices.Compact([]string{host(client), host(to), host(former), host(now)})...)
			servers := open()
			key, backend := tcp(to), realServer(former, 1)
			var add virtualserver.Batch
			add.AddServer(virtualserver.New(key, "rr", 0))
			add.AddReal(key, backend)
			do(ctx, servers, add)
			release, err := virtualserver.Release()
			Expect(err).NotTo(HaveOccurred())
			Expect(conntrack.Apply("/", virtualserver.Writes(release, false))).To(BeEmpty())
			rule(iptables, "POSTROUTING", "-j", "ACCEPT") // so that connections are tracked, as on every node
			formerly := listen(former)
			nowadays := formerly
			if now != former {
				nowadays = listen(now)
			}

			// The end that closes first is the one that must not use the port again soon.
			first, accepted := connect(client, to, formerly)
			Expect(accepted.Close()).To(Succeed())
			Expect(io.ReadAll(first)).To(BeEmpty())
			Expect(first.Close()).To(Succeed())

			var drain virtualserver.Batch
			drain.SetReal(key, virtualserver.RealServer{Addr: backend.Addr})
			do(ctx, servers, drain)
			rule(iptables, "OUTPUT", "-p", "tcp", "-d", host(to), "-j", "DNAT", "--to-destination", now)
			second, accepted := connect(client, to, nowadays)

			forget := func() (int, error) {
				return virtualserver.Forget(ctx, func(addr netip.AddrPort) bool { return addr == backend.Addr })
			}
			Expect(virtualserver.Forget(ctx, func(netip.AddrPort) bool { return false })).To(BeZero())
			Eventually(forget).Should(Equal(1), "it takes five seconds until nothing more is to come of a connection")
			Eventually(forget).Should(BeZero())

			By("ending what is left of the virtual server")
			var end virtualserver.Batch
			end.DeleteReal(key, backend)
			end.DeleteServer(key)
			do(ctx, servers, end)
			Eventually(os.ReadFile).WithArguments("/proc/thread-self/net/ip_vs_conn").ShouldNot(ContainSubstring("TCP"))
			_, err = accepted.Write([]byte("still here"))
			Expect(err).NotTo(HaveOccurred())
			text := make([]byte, 10)
			_, err = io.ReadFull(second, text)
			Expect(err).NotTo(HaveOccurred())
			Expect(string(text)).To(Equal("still here"))
		},
		Entry("IPv4, to another backend", "iptables-legacy", "10.0.0.2:40000", "10.0.0.1:80", "10.1.0.1:8080", "10.1.0.9:8080"),
		Entry("IPv4, to the same backend", "iptables-legacy", "10.0.0.2:40000", "10.0.0.1:80", "10.1.0.9:8080", "10.1.0.9:8080"),
		Entry("IPv6, to another backend", "ip6tables-legacy", "[fd00::2]:40000", "[fd00::1]:80", "[fd01::1]:8080", "[fd01::9]:8080"),
		Entry("IPv6, to the same backend", "ip6tables-legacy", "[fd00::2]:40000", "[fd00::1]:80", "[fd01::9]:8080", "[fd01::9]:8080"),
	)
})

func host(address string) string { return netip.MustParseAddrPort(address).Addr().String() }

// rule appends a rule to a chain of table nat.
func rule(iptables, chain string, words ...string) {
	GinkgoHelper()
	out, err := exec.Command(iptables, append([]string{"-t", "nat", "-A", chain}, words...)...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
}

func listen(address string) *net.TCPListener {
	GinkgoHelper()
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(listener.Close)
	Expect(listener.SetDeadline(time.Now().Add(time.Minute))).To(Succeed())
	return listener
}

// connect opens a connection from a port, and returns both ends of it.
func connect(client, to string, backend net.Listener) (near, far net.Conn) {
	GinkgoHelper()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)), Timeout: 10 * time.Second}
	near, err := dialer.Dial("tcp", to)
	Expect(err).NotTo(HaveOccurred())
	far, err = backend.Accept()
	Expect(err).NotTo(HaveOccurred())
	for _, end := range []net.Conn{near, far} {
		DeferCleanup(func() { _ = end.Close() })
		Expect(end.SetDeadline(time.Now().Add(time.Minute))).To(Succeed())
	}
	return near, far
}
