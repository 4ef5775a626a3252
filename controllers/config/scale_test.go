package config_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// scaleVariable says how many nodes the spec about scale has: 500 when unset, so that it does not take all day.
const scaleVariable = "SCALE_NODES"

// counter counts the writes of an operator by their kind.
type counter struct {
	nodes, other atomic.Int64
}

func (c *counter) send(next http.RoundTripper, request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet {
		var of string
		if _, err := fmt.Sscanf(request.URL.Path, "/apis/serviceproxy.io/v1alpha1/%17s", &of); err == nil && of == "serviceproxynodes" {
			c.nodes.Add(1)
		} else {
			c.other.Add(1)
		}
	}
	return next.RoundTrip(request)
}

func (c *counter) take() (nodes, other int64) { return c.nodes.Swap(0), c.other.Swap(0) }

var _ = Describe("a big cluster", Label("scale"), func() {
	It("costs nothing while nothing happens, and little while something does", func(ctx context.Context) {
		n := 500
		if text := os.Getenv(scaleVariable); text != "" {
			var err error
			n, err = strconv.Atoi(text)
			Expect(err).NotTo(HaveOccurred(), scaleVariable)
		}
		say := func(format string, values ...any) { AddReportEntry("scale", fmt.Sprintf(format, values...)) }
		wait := time.Minute + time.Duration(n)*50*time.Millisecond
		makeNodes(ctx, n)
		agents := startFleet(ctx, 500*time.Millisecond, 16)

		writes := &counter{}
		stop := startOperatorWith(through(server, writes.send), clock.RealClock{})
		begin := time.Now()
		applied := applyConfig(ctx, "default", 0, nil)
		Eventually(conditions(ctx, "default")).WithTimeout(wait).WithPolling(200 * time.Millisecond).Should(ContainElement(readyAll))
		nodes, other := writes.take()
		say("%d nodes join: %s, %d writes to nodes and %d others", n, time.Since(begin).Round(100*time.Millisecond), nodes, other)
		Expect(nodes).To(BeEquivalentTo(n))

		// The rollout of a tenth that the issue speaks of, ten times: the whole cluster.
		change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) {
			c.Spec.Rollout.MaxUnavailable = new(intstr.FromString("10%"))
		})
		Eventually(conditions(ctx, "default")).Should(ContainElement(readyAll))
		writes.take()
		agents.writes.Store(0)
		changes := watchChanges(ctx)
		begin = time.Now()
		change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) { c.Spec.Sync.FullIntervalSeconds = new(int32(60)) })
		Eventually(updated(ctx)).WithTimeout(wait).WithPolling(100 * time.Millisecond).Should(BeNumerically(">=", n/10))
		first := time.Since(begin)
		Eventually(conditions(ctx, "default")).WithTimeout(wait).WithPolling(200 * time.Millisecond).Should(ContainElement(readyAll))
		took := time.Since(begin)
		nodes, other = writes.take()
		say("10%% of %d nodes updated: %s; all, 10%% at a time: %s", n, first.Round(100*time.Millisecond), took.Round(100*time.Millisecond))
		say("all of it: %d writes to nodes, %d others by the operator, %d by agents; at most %d nodes in change",
			nodes, other, agents.writes.Load(), changes.most.Load())
		Expect(nodes).To(BeEquivalentTo(n))
		Expect(changes.most.Load()).To(BeNumerically("<=", n/10))
		Expect(other).To(BeNumerically("<=", 50+int64(took/time.Second)))

		written := versions(ctx)
		Consistently(func() string { return versions(ctx) }).WithTimeout(5 * time.Second).WithPolling(time.Second).Should(Equal(written))
		nodes, other = writes.take()
		say("idle for 5 s: %d writes to nodes and %d others", nodes, other)
		Expect([]int64{nodes, other}).To(Equal([]int64{0, 0}))

		running := heap()
		stop()
		say("memory in use by the operator: %.1f MB", float64(running-heap())/1e6)
	})
})

// updated returns a function that says how many nodes of the config are up to date, as its status has it.
func updated(ctx context.Context) func() int32 {
	return func() int32 {
		config := &v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		err := kube.Get(ctx, client.ObjectKeyFromObject(config), config)
		if err != nil || config.Status.ObservedGeneration != config.Generation {
			return 0
		}
		return *config.Status.Nodes.Updated
	}
}

// heap returns the bytes that are in use.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
