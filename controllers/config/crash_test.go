package config_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// doomed is the way to the API server of an operator that is killed after some writes. The last of them arrives or does
// not, and in either case the operator never hears of it.
type doomed struct {
	arrives bool
	dead    chan struct{}
	writes  atomic.Int64 // left
}

// through returns a config whose requests go through send.
func through(
	to *rest.Config, send func(next http.RoundTripper, request *http.Request) (*http.Response, error),
) *rest.Config {
	wrapped := rest.CopyConfig(to)
	wrapped.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(request *http.Request) (*http.Response, error) { return send(next, request) })
	})
	return wrapped
}

type roundTrip func(request *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

var errDead = errors.New("the operator was killed")

func (d *doomed) send(next http.RoundTripper, request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet {
		return next.RoundTrip(request)
	}
	switch left := d.writes.Add(-1); {
	case left > 0:
		return next.RoundTrip(request)
	case left == 0:
		defer close(d.dead)
		if d.arrives {
			if response, err := next.RoundTrip(request); err == nil {
				_ = response.Body.Close()
			}
		}
	}
	return nil, errDead
}

var _ = Describe("an operator that is killed", func() {
	const (
		kills = 100
		pool  = 50
		most  = 5 // 10% of the pool
	)

	It("goes on where it was, and never has more nodes in change than may be", func(ctx context.Context) {
		makeNodes(ctx, pool)
		changes := watchChanges(ctx)
		startFleet(ctx, 20*time.Millisecond, 8)
		applied := applyConfig(ctx, "default", 0, nil)
		stop := startOperator()
		Eventually(conditions(ctx, "default")).Should(ContainElement(readyAll))
		stop()

		random := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0))
		rollouts, outcomes := 0, map[string]int{}
		change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) {
			c.Spec.Rollout.MaxUnavailable = new(intstr.FromString("10%"))
			c.Spec.Rollout.OnFailure = v1alpha1.OnFailureRollback
		})
		for killed := 0; killed < kills; {
			fate := &doomed{dead: make(chan struct{}), arrives: random.IntN(2) == 0}
			fate.writes.Store(int64(1 + random.IntN(25)))
			stop := startOperatorWith(through(server, fate.send), clock.RealClock{})
			for dead := false; !dead; {
				select {
				case <-fate.dead:
					killed++
					dead = true
				case <-time.After(20 * time.Millisecond):
					// What is done is known from a completed rollout, so the next can begin.
					if outcome := ended(ctx, "default"); outcome != "" {
						rollouts++
						outcomes[outcome]++
						nextSettings(ctx, applied, rollouts)
					}
				}
			}
			stop()
		}
		stop = startOperator()
		change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) { c.Spec.Sync.FullIntervalSeconds = new(int32(4242)) })
		Eventually(conditions(ctx, "default")).WithTimeout(time.Minute).Should(ContainElement(readyAll))
		stop()
		for i := range pool {
			Expect(getObject(ctx, nodeName(i)).Spec.Sync.FullIntervalSeconds).To(HaveValue(BeEquivalentTo(4242)))
		}
		AddReportEntry("crashes", fmt.Sprintf("%d kills during %d rollouts of %d nodes, which ended %v; at most %d nodes in change",
			kills, rollouts, pool, outcomes, changes.most.Load()))
		Expect(changes.most.Load()).To(And(BeNumerically("<=", most), BeNumerically(">", 1)))
		Expect(outcomes).To(And(HaveKey(v1alpha1.ReasonAllNodesReady), HaveKey(v1alpha1.ReasonRolledBack)))
	})
})

// nextSettings changes the settings: every third time to some that no node takes.
func nextSettings(ctx context.Context, applied *v1alpha1.ServiceProxyConfig, n int) {
	GinkgoHelper()
	interval := int32(1000 + n)
	if n%3 == 0 {
		interval = badInterval
	}
	change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) { c.Spec.Sync.FullIntervalSeconds = &interval })
}

// ended returns how the rollout of a config has ended, or nothing while it goes on. One that is rolled back ends when
// all nodes are back.
func ended(ctx context.Context, name string) string {
	GinkgoHelper()
	config := &v1alpha1.ServiceProxyConfig{}
	Expect(kube.Get(ctx, client.ObjectKey{Name: name}, config)).To(Succeed())
	if config.Status.ObservedGeneration != config.Generation {
		return ""
	}
	if stalled := meta.FindStatusCondition(config.Status.Conditions, v1alpha1.ConditionStalled); stalled != nil {
		var objects v1alpha1.ServiceProxyNodeList
		Expect(kube.List(ctx, &objects)).To(Succeed())
		for i := range objects.Items {
			if objects.Items[i].Spec.Revision == config.Status.UpdateRevision {
				return ""
			}
		}
		return stalled.Reason
	}
	if ready := meta.FindStatusCondition(config.Status.Conditions, v1alpha1.ConditionReady); ready != nil &&
		ready.Status == metav1.ConditionTrue {
		return ready.Reason
	}
	return ""
}

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

// makeNodes makes many Nodes that are Ready, in three zones, and removes everything about them when the spec ends.
func makeNodes(ctx context.Context, n int) {
	GinkgoHelper()
	DeferCleanup(func(ctx context.Context) {
		Expect(kube.DeleteAllOf(ctx, &corev1.Node{})).To(Succeed())
		Expect(kube.DeleteAllOf(ctx, &v1alpha1.ServiceProxyNode{})).To(Succeed())
	})
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: nodeName(i), Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%3)},
		}}
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		}}
		group.Go(func() error { return kube.Create(ctx, node) })
	}
	Expect(group.Wait()).To(Succeed())
}
