package health_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/health"
)

var _ = Describe("NodePorts", func() {
	const port, otherPort = 30100, 30200
	web := types.NamespacedName{Namespace: "shop", Name: "web"}
	db := types.NamespacedName{Namespace: "shop", Name: "db"}
	var healthy bool
	var checks *health.NodePorts

	BeforeEach(func() {
		healthy = true
		checks = health.NewNodePorts(func() bool { return healthy })
		DeferCleanup(func() { checks.Close() })
	})

	DescribeTable("answers as kube-proxy does", func(ctx context.Context, ready int, proxyHealthy bool, code int, weight, body string) {
		enterNamespace()
		healthy = proxyHealthy
		checks.Set(health.Check{Service: web, Port: port, LocalReady: ready})
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())

		for _, addr := range []string{"127.0.0.1", "::1"} {
			for _, path := range []string{"/", "/healthz", "/any/path?at=all"} {
				c, err := connect(addr, port)
				Expect(err).NotTo(HaveOccurred())
				got, err := c.get(path)
				Expect(err).NotTo(HaveOccurred())
				Expect(c.Close()).To(Succeed())
				Expect(got.code).To(Equal(code))
				Expect(got.header.Get("Content-Type")).To(Equal("application/json"))
				Expect(got.header.Get("X-Content-Type-Options")).To(Equal("nosniff"))
				Expect(got.header.Get("X-Load-Balancing-Endpoint-Weight")).To(Equal(weight))
				Expect(got.body).To(MatchJSON(body))
			}
		}
	},
		Entry("with endpoints here", 3, true, http.StatusOK, "3",
			`{"service":{"namespace":"shop","name":"web"},"localEndpoints":3,"serviceProxyHealthy":true}`),
		Entry("with none", 0, true, http.StatusServiceUnavailable, "0",
			`{"service":{"namespace":"shop","name":"web"},"localEndpoints":0,"serviceProxyHealthy":true}`),
		Entry("while the proxy is not healthy", 3, false, http.StatusServiceUnavailable, "3",
			`{"service":{"namespace":"shop","name":"web"},"localEndpoints":3,"serviceProxyHealthy":false}`),
	)

	It("follows the endpoints on open connections, without a Sync", func(ctx context.Context) {
		enterNamespace()
		checks.Set(health.Check{Service: web, Port: port, LocalReady: 1})
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())
		c, err := connect("127.0.0.1", port)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { _ = c.Close() })
		before, err := c.get("/")
		Expect(err).NotTo(HaveOccurred())
		Expect(before.code).To(Equal(http.StatusOK))

		checks.Set(health.Check{Service: web, Port: port})
		after, err := c.get("/")
		Expect(err).NotTo(HaveOccurred())
		Expect(after.code).To(Equal(http.StatusServiceUnavailable))
	})

	It("follows Services", func(ctx context.Context) {
		enterNamespace()
		refused := MatchError(syscall.ECONNREFUSED)
		checks.Set(health.Check{Service: web, Port: port, LocalReady: 1})
		checks.Set(health.Check{Service: db, Port: otherPort})
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())
		Expect(ask("127.0.0.1", port)).To(Equal(http.StatusOK))
		Expect(ask("127.0.0.1", otherPort)).To(Equal(http.StatusServiceUnavailable))
		kept, err := connect("127.0.0.1", port)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { _ = kept.Close() })

		By("two Services exchange their ports")
		checks.Set(health.Check{Service: web, Port: otherPort, LocalReady: 1})
		checks.Set(health.Check{Service: db, Port: port})
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())
		Expect(ask("127.0.0.1", otherPort)).To(Equal(http.StatusOK))
		Expect(ask("127.0.0.1", port)).To(Equal(http.StatusServiceUnavailable))
		_, err = kept.get("/")
		Expect(err).To(HaveOccurred(), "a connection must not go on asking for the wrong Service")

		By("one Service is gone, or no longer has the policy")
		checks.Set(health.Check{Service: web})
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())
		_, err = ask("127.0.0.1", otherPort)
		Expect(err).To(refused)
		Expect(ask("127.0.0.1", port)).To(Equal(http.StatusServiceUnavailable))

		By("a Service that goes and comes before anybody looks")
		checks.Set(health.Check{Service: db})
		checks.Set(health.Check{Service: db, Port: port, LocalReady: 2})
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())
		Expect(ask("127.0.0.1", port)).To(Equal(http.StatusOK))

		checks.Close()
		_, err = ask("127.0.0.1", port)
		Expect(err).To(refused)
	})

	It("says which port it cannot have, and takes it when it can", func(ctx context.Context) {
		enterNamespace()
		taken, err := net.Listen("tcp", ":30100")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { _ = taken.Close() })
		checks.Set(health.Check{Service: web, Port: port, LocalReady: 1})
		checks.Set(health.Check{Service: db, Port: otherPort, LocalReady: 1})

		failures := checks.Sync(ctx, nil)
		Expect(failures).To(HaveLen(1))
		Expect(failures[0].Service).To(Equal(web))
		Expect(failures[0].Err).To(MatchError(syscall.EADDRINUSE))
		Expect(failures[0].Err).To(MatchError(ContainSubstring("healthCheckNodePort 30100")))
		Expect(failures[0].Repeated).To(BeFalse())
		Expect(ask("127.0.0.1", otherPort)).To(Equal(http.StatusOK), "the other Service does not suffer")

		failures = checks.Sync(ctx, nil)
		Expect(failures).To(HaveLen(1))
		Expect(failures[0].Repeated).To(BeTrue())

		Expect(taken.Close()).To(Succeed())
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())
		Expect(ask("127.0.0.1", port)).To(Equal(http.StatusOK))
	})

	It("listens only where node ports are", func(ctx context.Context) {
		enterNamespace("192.168.0.2", "192.168.1.2", "2001:db8::2", "2001:db8:1::2")
		checks.Set(health.Check{Service: web, Port: port, LocalReady: 1})
		within := []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}
		Expect(checks.Sync(ctx, within)).To(BeEmpty())
		for _, addr := range []string{"192.168.0.2", "2001:db8::2"} {
			Expect(ask(addr, port)).To(Equal(http.StatusOK), addr)
		}
		for _, addr := range []string{"192.168.1.2", "2001:db8:1::2", "127.0.0.1", "::1"} {
			_, err := ask(addr, port)
			Expect(err).To(MatchError(syscall.ECONNREFUSED), addr)
		}

		By("a change of the setting")
		Expect(checks.Sync(ctx, []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")})).To(BeEmpty())
		Expect(ask("192.168.1.2", port)).To(Equal(http.StatusOK))
		_, err := ask("192.168.0.2", port)
		Expect(err).To(MatchError(syscall.ECONNREFUSED))
		Expect(checks.Sync(ctx, nil)).To(BeEmpty())
		Expect(ask("192.168.0.2", port)).To(Equal(http.StatusOK))
	})
})
