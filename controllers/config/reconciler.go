// Package config carries out what the planner decides: it reads the world, asks for a plan, and writes the specs of
// ServiceProxyNodes and the statuses of ServiceProxyConfigs that are not as planned.
package config

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// FieldOwner is the field manager of everything that the operator writes.
const FieldOwner = "service-proxy-operator"

// A pass that failed is repeated after minRetry, then twice that, up to maxRetry. There is one key for the whole
// world, so one node that cannot be written must not slow down all others for long.
const (
	minRetry = 200 * time.Millisecond
	maxRetry = 30 * time.Second
)

// Reconciler makes ServiceProxyNodes and the statuses of ServiceProxyConfigs what the planner says.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	// Namespace is where the history of settings is kept and where the agents are.
	Namespace string
	// Guard tells whether agents can write no more than they may. Nil if nobody looks after that.
	Guard Guard
	// Metrics is told what passes decide and write. Nil if nobody asks.
	Metrics *Metrics

	// reported is when the status of a config was last written, by its name. A new process begins without, which
	// costs at most one early write per config.
	reported map[string]time.Time
}

// Guard is what is known of the policy that keeps every agent to the status of its own node.
type Guard interface {
	// Problem says why the policy is not in force, to people. It is empty while it is, and while that is not known yet.
	Problem() string
	// Changed gets an event whenever Problem has changed.
	Changed() <-chan event.GenericEvent
}

// world is the one key of the queue. A plan is made of everything, so however many events arrive while a pass is
// running, one more pass covers them all.
type world struct{}

var _ reconcile.TypedReconciler[world] = (*Reconciler)(nil)

// +kubebuilder:rbac:groups=serviceproxy.io,resources=serviceproxyconfigs,verbs=get;list;watch
// +kubebuilder:rbac:groups=serviceproxy.io,resources=serviceproxyconfigs/status,verbs=patch
// +kubebuilder:rbac:groups=serviceproxy.io,resources=serviceproxynodes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch,namespace=service-proxy-system
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;watch;create;patch;delete,namespace=service-proxy-system
// +kubebuilder:rbac:groups=apps,resources=daemonsets,verbs=get;list;watch,namespace=service-proxy-system
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=service-proxy-system

// SetupWithManager adds the reconciler to a manager that was made with ManagerOptions.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	r.reported = map[string]time.Time{}
	control := builder.TypedControllerManagedBy[world](mgr).
		Named("serviceproxyconfig").
		WatchesRawSource(watch(mgr, &v1alpha1.ServiceProxyConfig{}, configMatters)).
		WatchesRawSource(watch(mgr, &v1alpha1.ServiceProxyNode{}, objectMatters)).
		WatchesRawSource(watch(mgr, &corev1.Node{}, nodeMatters)).
		WatchesRawSource(watch(mgr, &appsv1.ControllerRevision{}, revisionMatters)).
		WatchesRawSource(watch(mgr, &appsv1.DaemonSet{}, agentsMatter)).
		WatchesRawSource(watch(mgr, &corev1.Pod{}, podMatters)).
		WithOptions(controller.TypedOptions[world]{
			EnableWarmup: new(true), // a standby has everything read when its turn comes
			RateLimiter:  workqueue.NewTypedItemExponentialFailureRateLimiter[world](minRetry, maxRetry),
		})
	if r.Guard != nil {
		control = control.WatchesRawSource(source.TypedChannel(r.Guard.Changed(),
			handler.TypedFuncs[client.Object, world]{GenericFunc: func(
				_ context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[world],
			) {
				q.AddAfter(world{}, settle)
			}}))
	}
	if err := control.Complete(r); err != nil {
		return fmt.Errorf("adding the controller of ServiceProxyConfigs: %w", err)
	}
	return nil
}

// Reconcile makes one pass over the whole world. What cannot be written is tried again later and does not keep the
// rest from being written now.
func (r *Reconciler) Reconcile(ctx context.Context, _ world) (reconcile.Result, error) {
	before, err := read(ctx, r.Client, r.Namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	before.Now = metav1.NewTime(r.Clock.Now())
	if r.Guard != nil {
		before.Hold = r.Guard.Problem()
	}
	begin := r.Clock.Now()
	plan := planner.Make(before.World)
	r.Metrics.planned(r.Clock.Since(begin), &before.World, &plan)
	// What nodes return to, and what has been decided about them, has to be there before anything that is based on it:
	// the operator may end after each of these writes.
	if err := r.keep(ctx, before.revisions, plan.Revisions); err != nil {
		return reconcile.Result{}, err
	}
	reported, reportErr := r.report(ctx, before.Configs, plan.Statuses)
	done, assignErr := r.assign(ctx, before.Objects, reported.based(plan.Assignments))
	if err := errors.Join(reportErr, assignErr); err != nil {
		return reconcile.Result{}, err
	}
	again := reported.due
	if !done {
		again = settle
	} else if err := r.forget(ctx, plan.Obsolete); err != nil {
		return reconcile.Result{}, err
	}
	if !plan.Next.IsZero() {
		again = earliest(again, max(settle, plan.Next.Sub(r.Clock.Now())))
	}
	return reconcile.Result{RequeueAfter: again}, nil
}
