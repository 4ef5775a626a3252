package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// versions are the resource versions of all objects of both kinds: they change with every write.
func versions(ctx context.Context) func() string {
	return func() string {
		return kubectl(ctx, "get", "spc,spn", "-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}`)
	}
}

// settled waits until a second and a half has passed in which nobody wrote. Counters that have changed are written up to a
// minute later, or with something that matters: a change of settings.
func settled(ctx context.Context) string {
	GinkgoHelper()
	patchForNow(ctx, `{"spec":{"sync":{"minIntervalMilliseconds":10}}}`, `{"spec":{"sync":null}}`)
	last, since := versions(ctx)(), time.Now()
	Eventually(func() time.Duration {
		if now := versions(ctx)(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since)
	}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(BeNumerically(">", 1500*time.Millisecond))
	return last
}

var _ = Describe("An idle cluster", func() {
	It("is not written to", func(ctx context.Context) {
		before := settled(ctx)
		Consistently(versions(ctx)).WithTimeout(4 * time.Second).WithPolling(500 * time.Millisecond).Should(Equal(before))
	})
})

var _ = Describe("The operator", func() {
	It("stands by for another one, takes over when that is killed, and changes nothing but what has to change", func(ctx context.Context) {
		spec, err := setup.OperatorProcess(ctx)
		Expect(err).NotTo(HaveOccurred())
		spec.Args = append(spec.Args, "--metrics-bind-address=0", "--health-probe-bind-address=0")
		spec.Name = "second-operator"
		second, err := world.ControlPlane().Start(spec)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) {
			Expect(second.Stop(ctx)).To(Succeed()) // which gives the lease back
			Expect(setup.StartOperator(ctx)).To(Succeed())
		})
		leader := func() string {
			return kubectl(ctx, "get", "lease", "--namespace=service-proxy-system", "service-proxy-operator", "-o", "jsonpath={.spec.holderIdentity}")
		}
		first := leader()
		before := settled(ctx)
		setup.Operator().Kill()
		Eventually(leader).WithTimeout(time.Minute).Should(And(Not(Equal(first)), Not(BeEmpty())))
		Consistently(versions(ctx)).WithTimeout(2 * time.Second).WithPolling(500 * time.Millisecond).Should(Equal(before))

		kubectl(ctx, "label", "node", nft, "example.com/pool=edge")
		DeferCleanup(func(ctx context.Context) {
			kubectl(ctx, "label", "node", nft, "example.com/pool-")
			Eventually(configReady(ctx, "edge")).Should(Equal("True/NoMatchingNodes"))
		})
		Eventually(configReady(ctx, "edge")).Should(Equal("True/AllNodesReady"))
	})
})
