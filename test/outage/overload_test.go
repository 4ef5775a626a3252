package outage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// hugeSlices and perSlice are what a Service of 10,000 endpoints comes to.
	hugeSlices = 100
	perSlice   = 100
	// writers is from how many sides a storm comes.
	writers = 8
)

// hugeSlice is one of the slices of Service huge. Nobody is at its addresses.
func hugeSlice(i int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("huge-%d", i),
			Labels: map[string]string{discoveryv1.LabelServiceName: "huge"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
	}
	for n := range perSlice {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.200.%d.%d", i, n+1)}})
	}
	return s
}

// fromAllSides does something so many times, several at once.
func fromAllSides(n int, do func(i int) error) {
	GinkgoHelper()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for range writers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs <- do(i)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		Expect(err).NotTo(HaveOccurred())
	}
}

// storm changes slices of Service huge all the time until it is ended, and tells how often it did.
func storm(ctx context.Context) (end func() int) {
	ctx, cancel := context.WithCancel(ctx)
	var changes atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				s := hugeSlice(w + writers*(n%(hugeSlices/writers)))
				s.Endpoints = s.Endpoints[n%perSlice:]
				if err := world.Client().Update(ctx, s); err == nil {
					changes.Add(1)
				}
			}
		})
	}
	return func() int {
		cancel()
		wg.Wait()
		return int(changes.Load())
	}
}

// huge makes a Service of 10,000 endpoints that is gone after the spec, and waits until a node has it.
func huge(ctx context.Context) {
	GinkgoHelper()
	apply(ctx, `
apiVersion: v1
kind: Service
metadata: {name: huge}
spec:
  clusterIP: 10.96.4.1
  ports: [{name: http, port: 80, targetPort: 8080}]
`)
	DeferCleanup(func(ctx SpecContext) {
		Expect(world.Client().DeleteAllOf(ctx, &discoveryv1.EndpointSlice{}, client.InNamespace("default"),
			client.MatchingLabels{discoveryv1.LabelServiceName: "huge"})).To(Succeed())
		_, err := world.Kubectl(ctx, "delete", "service", "huge")
		Expect(err).NotTo(HaveOccurred())
		for _, node := range []string{doors, straight} {
			Eventually(func() float64 { return metric(ctx, node, "serviceproxy_endpoints") }).Should(BeNumerically("<", perSlice+2*more))
		}
	})
	fromAllSides(hugeSlices, func(i int) error {
		err := world.Client().Create(ctx, hugeSlice(i))
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	for _, node := range []string{doors, straight} {
		Eventually(func() float64 { return metric(ctx, node, "serviceproxy_endpoints") }).Should(BeNumerically(">=", hugeSlices*perSlice))
	}
}

func endpoints(ctx context.Context) float64 {
	GinkgoHelper()
	return metric(ctx, straight, "serviceproxy_endpoints")
}

// alone has one Service made, and waits until it is there.
func alone(ctx context.Context, name, address string) {
	GinkgoHelper()
	start := time.Now()
	newService(ctx, name, address)
	Eventually(func() error { return asks(ctx, straight, address+":80") }).Should(Succeed())
	took("from the creation of a Service of others to its first connection", start)
}

var _ = Describe("A Service with 10,000 endpoints", func() {
	It("is programmed, and holds up nobody while it changes all the time", func(ctx SpecContext) {
		doubt(ctx, 0)
		DeferCleanup(func(ctx SpecContext) { doubt(ctx, 60) })
		isWhole := flow(ctx, straight)
		goroutines := metric(ctx, straight, "go_goroutines")
		start := time.Now()
		huge(ctx)
		took("from the first of 100 slices to 10,000 endpoints in the kernel", start)

		end := storm(ctx)
		DeferCleanup(end)
		for i := range 5 {
			alone(ctx, fmt.Sprintf("alone-%d", i), fmt.Sprintf("10.96.5.%d", i+1))
			Expect(healthz(ctx, straight)).To(Equal(200))
		}
		Expect(metric(ctx, straight, "go_goroutines")).To(BeNumerically("<=", goroutines+20))
		Expect(metric(ctx, straight, "go_memstats_heap_alloc_bytes")).To(BeNumerically("<", 256<<20))
		AddReportEntry("changes of slices meanwhile", end())
		isWhole()
	}, SpecTimeout(8*time.Minute))

	It("may lose them all at once", func(ctx SpecContext) {
		doubt(ctx, 0)
		DeferCleanup(func(ctx SpecContext) { doubt(ctx, 60) })
		isWhole := flow(ctx, straight)
		huge(ctx)
		start := time.Now()
		Expect(world.Client().DeleteAllOf(ctx, &discoveryv1.EndpointSlice{}, client.InNamespace("default"),
			client.MatchingLabels{discoveryv1.LabelServiceName: "huge"})).To(Succeed())
		alone(ctx, "meanwhile", "10.96.5.100")
		Eventually(func() float64 { return endpoints(ctx) }).Should(BeNumerically("<", perSlice+2*more))
		took("from the deletion of all slices to a kernel without them", start)
		Expect(healthz(ctx, straight)).To(Equal(200))
		isWhole()
	}, SpecTimeout(8*time.Minute))

	It("keeps them for a while where all are lost at once and that is doubted", func(ctx SpecContext) {
		isWhole := flow(ctx, straight)
		huge(ctx)
		Expect(world.Client().DeleteAllOf(ctx, &discoveryv1.EndpointSlice{}, client.InNamespace("default"),
			client.MatchingLabels{discoveryv1.LabelServiceName: "huge"})).To(Succeed())
		Eventually(func() float64 { return metric(ctx, straight, `serviceproxy_held_back{kind="endpoints"}`) }).
			Should(BeNumerically(">=", hugeSlices*perSlice))
		Eventually(func() float64 { return endpoints(ctx) }).Should(BeNumerically(">=", hugeSlices*perSlice))
		alone(ctx, "beside", "10.96.5.101")
		doubt(ctx, 0)
		DeferCleanup(func(ctx SpecContext) { doubt(ctx, 60) })
		Eventually(func() float64 { return endpoints(ctx) }).Should(BeNumerically("<", perSlice+2*more))
		isWhole()
	}, SpecTimeout(8*time.Minute))
})
