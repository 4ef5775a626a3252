package config

import (
	"context"
	"fmt"
	"net/http"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// settle is how long an event waits for others before a pass begins. A pass costs what the cluster is big, so in a
// rollout, when hundreds of nodes report every second, it is better made ten times a second than a hundred times.
const settle = 100 * time.Millisecond

// ManagerOptions returns what a manager needs to run the Reconciler with this Namespace: the types, caches that keep no
// more of Nodes and Pods than decides, and reads that wait for the manager's own writes, so that no pass plans with what it has just
// changed. Addresses and leader election are the caller's.
func ManagerOptions(namespace string) (manager.Options, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return manager.Options{}, fmt.Errorf("registering types: %w", err)
		}
	}
	return manager.Options{
		Scheme: scheme,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         byObject(namespace),
		},
		Client: client.Options{
			Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)},
		},
	}, nil
}

// byObject says what is kept of what: of the kinds that others use as well no more than what is about the agents and
// their settings.
func byObject(namespace string) map[client.Object]cache.ByObject {
	within := func(what cache.Config) map[string]cache.Config { return map[string]cache.Config{namespace: what} }
	return map[client.Object]cache.ByObject{
		&corev1.Node{}: {Transform: reduceNode},
		&corev1.Pod{}: {
			Transform:  reducePod,
			Namespaces: within(cache.Config{LabelSelector: labels.SelectorFromSet(agentLabels())}),
		},
		&appsv1.DaemonSet{}: {
			Namespaces: within(cache.Config{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, agentName)}),
		},
		&appsv1.ControllerRevision{}: {Namespaces: within(cache.Config{LabelSelector: ofConfigs()})},
	}
}

// CachesSynced returns a check that passes once everything a plan is made of has been read.
func CachesSynced(caches cache.Cache) healthz.Checker {
	return func(request *http.Request) error {
		for _, kind := range []client.Object{
			&v1alpha1.ServiceProxyConfig{}, &v1alpha1.ServiceProxyNode{}, &corev1.Node{}, &appsv1.ControllerRevision{},
		} {
			informer, err := caches.GetInformer(request.Context(), kind, cache.BlockUntilSynced(false))
			if err != nil {
				return fmt.Errorf("getting the cache of %T: %w", kind, err)
			}
			if !informer.HasSynced() {
				return fmt.Errorf("the cache of %T has not been read yet", kind)
			}
		}
		return nil
	}
}

// reduceNode keeps of a Node what the planner looks at and what a cache cannot do without. The rest of 5000 Nodes
// would be the better part of the operator's memory.
func reduceNode(in any) (any, error) {
	node, ok := in.(*corev1.Node)
	if !ok {
		return in, nil
	}
	reduced := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Labels: node.Labels,
		CreationTimestamp: node.CreationTimestamp,
	}}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			condition.Message, condition.LastHeartbeatTime = "", metav1.Time{}
			reduced.Status.Conditions = []corev1.NodeCondition{condition}
		}
	}
	return reduced, nil
}

func plannerNode(node *corev1.Node) planner.Node {
	reduced := planner.Node{
		Name: node.Name, UID: node.UID, Labels: node.Labels, Created: node.CreationTimestamp,
		Since: node.CreationTimestamp, // a kubelet that has not reported yet is one that is not ready
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			reduced.Ready, reduced.Since = condition.Status == corev1.ConditionTrue, condition.LastTransitionTime
		}
	}
	return reduced
}

// watch returns the events of a kind, those updates left out that cannot change a plan.
func watch[T client.Object](mgr manager.Manager, kind T, matters func(before, after T) bool) source.TypedSource[world] {
	type queue = workqueue.TypedRateLimitingInterface[world]
	return source.TypedKind(mgr.GetCache(), kind,
		handler.TypedFuncs[T, world]{
			CreateFunc: func(_ context.Context, _ event.TypedCreateEvent[T], q queue) { q.AddAfter(world{}, settle) },
			UpdateFunc: func(_ context.Context, _ event.TypedUpdateEvent[T], q queue) { q.AddAfter(world{}, settle) },
			DeleteFunc: func(_ context.Context, _ event.TypedDeleteEvent[T], q queue) { q.AddAfter(world{}, settle) },
		},
		predicate.TypedFuncs[T]{
			UpdateFunc: func(e event.TypedUpdateEvent[T]) bool { return matters(e.ObjectOld, e.ObjectNew) },
		})
}

// configMatters lets all updates of configs pass: a status that somebody else wrote is put right like a spec.
func configMatters(before, after *v1alpha1.ServiceProxyConfig) bool {
	return before.ResourceVersion != after.ResourceVersion
}

// objectMatters leaves out what a busy node reports all the time about its syncs.
func objectMatters(before, after *v1alpha1.ServiceProxyNode) bool {
	decisive := func(object *v1alpha1.ServiceProxyNode) v1alpha1.ServiceProxyNode {
		reduced := *object
		reduced.ResourceVersion = ""
		reduced.Status.Sync = nil
		return reduced
	}
	return !apiequality.Semantic.DeepEqual(decisive(before), decisive(after))
}

// revisionMatters lets all updates of revisions pass: there are few, and nobody else makes any.
func revisionMatters(before, after *appsv1.ControllerRevision) bool {
	return before.ResourceVersion != after.ResourceVersion
}

// nodeMatters leaves out heartbeats, images, addresses and whatever else kubelets report.
func nodeMatters(before, after *corev1.Node) bool {
	return !apiequality.Semantic.DeepEqual(plannerNode(before), plannerNode(after))
}
