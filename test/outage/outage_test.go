package outage

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

var _ = Describe("An API server that answers with empty lists", func() {
	It("is not believed, and all is as it was when it is right again", func(ctx SpecContext) {
		isWhole := flow(ctx, doors)
		DeferCleanup(func() { front.forget(false); side.forget(false) })
		start := time.Now()
		front.forget(true)
		side.forget(true)
		Eventually(func() string { return condition(ctx, doors, v1alpha1.ConditionHeldBack).Reason }).Should(Equal(v1alpha1.ReasonSuddenLoss))
		took("from empty lists to condition HeldBack", start)
		Expect(condition(ctx, doors, v1alpha1.ConditionHeldBack).Message).To(MatchRegexp(`were lost within a few seconds`))
		Eventually(func() float64 { return metric(ctx, doors, `serviceproxy_held_back{kind="endpoints"}`) }).Should(BeNumerically(">", 2*more))
		Eventually(func() float64 { return metric(ctx, doors, `serviceproxy_held_back{kind="services"}`) }).Should(BeNumerically(">", more))
		Expect(metric(ctx, doors, "serviceproxy_service_ports")).To(BeNumerically(">", more))
		Expect(healthz(ctx, doors)).To(Equal(200))
		Expect(asks(ctx, doors, fmt.Sprintf("10.96.1.%d:80", more))).To(Succeed())
		Eventually(func() bool {
			var events corev1.EventList
			Expect(world.Client().List(ctx, &events, client.InNamespace("default"))).To(Succeed())
			for _, e := range events.Items {
				if e.Reason == v1alpha1.ReasonSuddenLoss && e.InvolvedObject.Name == doors {
					return true
				}
			}
			return false
		}).Should(BeTrue())
		Expect(condition(ctx, straight, v1alpha1.ConditionHeldBack).Reason).To(BeEmpty())

		start = time.Now()
		front.forget(false)
		side.forget(false)
		Eventually(func() string { return condition(ctx, doors, v1alpha1.ConditionHeldBack).Reason }).Should(BeEmpty())
		took("from lists that are right to the end of HeldBack", start)
		Expect(metric(ctx, doors, `serviceproxy_held_back{kind="services"}`)).To(BeZero())
		isWhole()
	}, SpecTimeout(5*time.Minute))

	It("is believed when the time is over", func(ctx SpecContext) {
		doubt(ctx, 3)
		DeferCleanup(func(ctx SpecContext) { doubt(ctx, 60) })
		DeferCleanup(func() { front.forget(false); side.forget(false) })
		front.forget(true)
		side.forget(true)
		Eventually(func() error { return asks(ctx, doors, webAddress) }).ShouldNot(Succeed())
		Expect(setup.Agent(doors).Tail(1000)).To(ContainSubstring("A sudden loss is believed now"))
		Eventually(func() string { return condition(ctx, doors, v1alpha1.ConditionHeldBack).Reason }).Should(BeEmpty())
		front.forget(false)
		side.forget(false)
		Eventually(func() error { return asks(ctx, doors, webAddress) }).Should(Succeed())
	}, SpecTimeout(5*time.Minute))
})

var _ = Describe("An API server that comes and goes", func() {
	It("leaves connections and Services alone, and is followed within seconds of its return", func(ctx SpecContext) {
		isWhole := flow(ctx, straight)
		goroutines := metric(ctx, straight, "go_goroutines")
		away := false
		back := func(ctx SpecContext) {
			if !away {
				return
			}
			Expect(world.StartAPIServer(ctx)).To(Succeed())
			away = false
			select {
			case <-setup.Operator().Done(): // It ends when it cannot renew its lease; a Deployment starts it again.
				Expect(setup.StartOperator(ctx)).To(Succeed())
			default:
			}
		}
		DeferCleanup(back)
		for i := range 3 {
			By(fmt.Sprintf("outage %d", i+1))
			Expect(world.StopAPIServer(ctx)).To(Succeed())
			away = true
			// An API server that ends in good order takes itself out of the endpoints of Service kubernetes before.
			written := metric(ctx, straight, "serviceproxy_chains_written_total")
			Consistently(func() int { return healthz(ctx, straight) }).WithTimeout(3 * time.Second).WithPolling(200 * time.Millisecond).Should(Equal(200))
			Expect(metric(ctx, straight, "serviceproxy_chains_written_total")).To(Equal(written), "an outage is no reason to write anything")
			back(ctx)
			name, address := fmt.Sprintf("after-%d", i), fmt.Sprintf("10.96.2.%d", i+1)
			start := time.Now()
			newService(ctx, name, address)
			for _, node := range []string{straight, doors} {
				Eventually(func() error { return asks(ctx, node, address+":80") }).Should(Succeed())
			}
			took("from a Service that is new after an outage to both nodes", start)
		}
		Eventually(func() float64 { return metric(ctx, straight, "go_goroutines") }).Should(BeNumerically("<=", goroutines+10))
		isWhole()
	}, SpecTimeout(5*time.Minute))
})

var _ = Describe("One of several API servers that goes away", func() {
	It("is replaced by another one", func(ctx SpecContext) {
		isWhole := flow(ctx, doors)
		for i, shut := range []*door{front, side} {
			shut.shut()
			open := false
			reopen := func(ctx SpecContext) {
				if !open {
					Expect(shut.open(ctx)).To(Succeed())
					open = true
				}
			}
			DeferCleanup(reopen)
			start := time.Now()
			name, address := fmt.Sprintf("other-way-%d", i), fmt.Sprintf("10.96.3.%d", i+1)
			newService(ctx, name, address)
			Eventually(func() error { return asks(ctx, doors, address+":80") }).Should(Succeed())
			took("from an API server that is gone to a change that came from another", start)
			reopen(ctx)
		}
		isWhole()
	}, SpecTimeout(5*time.Minute))
})
