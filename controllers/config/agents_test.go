package config_test

import (
	"context"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// badInterval is a spec.sync.fullIntervalSeconds that no simulated agent takes: it returns to what it had.
const badInterval = 999

// fleet is the agents of all nodes, simulated: each reports on what its node is assigned, after some time.
type fleet struct {
	client client.Client
	cache  cache.Cache
	queue  workqueue.TypedDelayingInterface[string]
	delay  time.Duration
	// writes counts the statuses that were written.
	writes atomic.Int64
}

// startFleet runs agents until the spec ends.
func startFleet(ctx context.Context, delay time.Duration, workers int) *fleet {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	DeferCleanup(cancel)
	all, err := cache.New(admin, cache.Options{
		Scheme: kube.Scheme(), DefaultTransform: cache.TransformStripManagedFields(),
	})
	Expect(err).NotTo(HaveOccurred())
	f := &fleet{client: kube, cache: all, queue: workqueue.NewTypedDelayingQueue[string](), delay: delay}
	informer, err := all.GetInformer(ctx, &v1alpha1.ServiceProxyNode{})
	Expect(err).NotTo(HaveOccurred())
	notice := func(obj any) {
		if object, ok := obj.(*v1alpha1.ServiceProxyNode); ok && object.Status.ObservedGeneration != object.Generation {
			f.queue.AddAfter(object.Name, f.delay)
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: notice, UpdateFunc: func(_, obj any) { notice(obj) },
	})
	Expect(err).NotTo(HaveOccurred())
	go func() { _ = all.Start(ctx) }() // it ends with the spec, and without its events the spec does not
	DeferCleanup(f.queue.ShutDown)
	for range workers {
		go f.work(ctx)
	}
	return f
}

func (f *fleet) work(ctx context.Context) {
	for {
		name, shutdown := f.queue.Get()
		if shutdown {
			return
		}
		if err := f.report(ctx, name); err != nil && ctx.Err() == nil {
			f.queue.AddAfter(name, time.Second)
		}
		f.queue.Done(name)
	}
}

// report writes the status of one node, if what it is assigned is news to its agent.
func (f *fleet) report(ctx context.Context, name string) error {
	object := &v1alpha1.ServiceProxyNode{}
	if err := f.cache.Get(ctx, client.ObjectKey{Name: name}, object); err != nil {
		return client.IgnoreNotFound(err)
	}
	if object.Status.ObservedGeneration == object.Generation {
		return nil
	}
	before := object.DeepCopy()
	now := &object.Status
	now.ObservedGeneration = object.Generation
	outcome, reason := metav1.ConditionTrue, v1alpha1.ReasonSynced
	if interval := object.Spec.Sync.FullIntervalSeconds; interval != nil && *interval == badInterval {
		outcome, reason, now.FailedRevision = metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, object.Spec.Revision
	} else {
		now.AppliedRevision, now.Mode = object.Spec.Revision, object.Spec.Mode
	}
	setCondition(object, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonSupported, "")
	setCondition(object, v1alpha1.ConditionProgrammed, outcome, reason, "")
	setCondition(object, v1alpha1.ConditionReady, outcome, reason, "")
	rolledBack := map[metav1.ConditionStatus]metav1.ConditionStatus{
		metav1.ConditionTrue: metav1.ConditionFalse, metav1.ConditionFalse: metav1.ConditionTrue,
	}[outcome]
	setCondition(object, v1alpha1.ConditionRolledBack, rolledBack, reason, "")
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := f.client.Status().Patch(ctx, object, patch); err != nil {
		return client.IgnoreNotFound(err)
	}
	f.writes.Add(1)
	return nil
}

// inChange tells whether a node has been given other settings than it had and is not in sync with them.
func inChange(object *v1alpha1.ServiceProxyNode) bool {
	_, changed := object.Annotations["serviceproxy.io/assigned-at"]
	ready := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady)
	return changed && (object.Status.AppliedRevision != object.Spec.Revision ||
		ready == nil || ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != object.Generation)
}

// changes follows how many nodes are in change at the same time.
type changes struct {
	now, most atomic.Int64
}

// watchChanges follows all nodes until the spec ends. Events of one watch come in the order of the writes.
func watchChanges(ctx context.Context) *changes {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	DeferCleanup(cancel)
	all, err := cache.New(admin, cache.Options{Scheme: kube.Scheme()})
	Expect(err).NotTo(HaveOccurred())
	informer, err := all.GetInformer(ctx, &v1alpha1.ServiceProxyNode{})
	Expect(err).NotTo(HaveOccurred())
	c := &changes{}
	busy := map[string]bool{} // one goroutine calls the handlers
	look := func(obj any) {
		if object, ok := obj.(*v1alpha1.ServiceProxyNode); ok && inChange(object) {
			busy[object.Name] = true
		} else if ok {
			delete(busy, object.Name)
		}
		c.now.Store(int64(len(busy)))
		c.most.Store(max(c.most.Load(), int64(len(busy))))
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: look, UpdateFunc: func(_, obj any) { look(obj) },
	})
	Expect(err).NotTo(HaveOccurred())
	go func() { _ = all.Start(ctx) }()
	Expect(all.WaitForCacheSync(ctx)).To(BeTrue())
	return c
}
