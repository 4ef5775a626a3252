// Package install keeps in the cluster what agents need: the guard policy, which keeps every agent to the status of its
// own node, then the addresses of the API servers, then the DaemonSet that runs the agents.
//
// No agent is started, and no running one is replaced, before the guard was seen to refuse something. The service
// account of the agents and its rules are installed with the operator, not by it: whoever grants rules must hold them,
// and the operator holds no more than it needs.
//
// Everything belongs to the CustomResourceDefinition of ServiceProxyNodes and goes when that is deleted. It stays when
// the operator is deleted alone: agents go on without it.
package install

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
)

// FieldOwner is the field manager of everything that is installed.
const FieldOwner = "service-proxy-operator"

const (
	// again is when to look again at a guard that is not in force.
	again = time.Second
	// routine is when to look again at one that is. Changes of what was installed are noticed at once; what can get
	// lost without one is the force of the guard.
	routine = 10 * time.Minute

	minRetry = 200 * time.Millisecond
	maxRetry = 30 * time.Second
)

// ownerName is the object that everything installed belongs to.
const ownerName = "serviceproxynodes.serviceproxy.io"

// Reconciler installs what agents need.
type Reconciler struct {
	// API reads and writes at the API server, without a cache: there is little to read, and it has to be true.
	API client.Client
	// Namespace is that of the operator and of the agents.
	Namespace string
	// Agent is how agents are run; nil if others run them, and then the guard alone is installed.
	Agent *Agent
	// APIServers are addresses of API servers, or of a load balancer, that agents are told besides those that the
	// API servers themselves publish.
	APIServers []string
	// Guard is told whether the guard is in force.
	Guard *Guard
}

// ByObject returns what the cache of the manager is to hold so that a Reconciler learns of changes: a few objects by
// their names. The rights of the operator do not go further. The DaemonSet of the agents is among what config.Reconciler
// needs as well.
func ByObject(namespace string) map[client.Object]cache.ByObject {
	named := func(name string) fields.Selector { return fields.OneTermEqualSelector(metav1.ObjectNameField, name) }
	in := func(namespace, name string) cache.ByObject {
		return cache.ByObject{Namespaces: map[string]cache.Config{namespace: {FieldSelector: named(name)}}}
	}
	return map[client.Object]cache.ByObject{
		&admissionv1.ValidatingAdmissionPolicy{}:        {Field: named(GuardName)},
		&admissionv1.ValidatingAdmissionPolicyBinding{}: {Field: named(GuardName)},
		&corev1.ConfigMap{}:                             in(namespace, APIServersName),
		&discoveryv1.EndpointSlice{}:                    in(apiserver.SliceNamespace, apiserver.SliceName),
	}
}

// installation is the one key of the queue.
type installation struct{}

var _ reconcile.TypedReconciler[installation] = (*Reconciler)(nil)

// SetupWithManager adds the reconciler to a manager whose cache was made with ByObject.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	control := builder.TypedControllerManagedBy[installation](mgr).
		Named("install").
		WatchesRawSource(source.TypedFunc[installation](func(
			_ context.Context, q workqueue.TypedRateLimitingInterface[installation],
		) error {
			q.Add(installation{})
			return nil
		})).
		WatchesRawSource(watch[client.Object](mgr, &admissionv1.ValidatingAdmissionPolicy{}, predicate.ResourceVersionChangedPredicate{})).
		WatchesRawSource(watch[client.Object](mgr, &admissionv1.ValidatingAdmissionPolicyBinding{}, predicate.ResourceVersionChangedPredicate{})).
		WithOptions(controller.TypedOptions[installation]{
			EnableWarmup: new(true),
			RateLimiter:  workqueue.NewTypedItemExponentialFailureRateLimiter[installation](minRetry, maxRetry),
		})
	if r.Agent != nil {
		control = control.
			WatchesRawSource(watch[client.Object](mgr, &appsv1.DaemonSet{}, predicate.GenerationChangedPredicate{})).
			WatchesRawSource(watch[client.Object](mgr, &corev1.ConfigMap{}, predicate.ResourceVersionChangedPredicate{})).
			WatchesRawSource(watch[client.Object](mgr, &discoveryv1.EndpointSlice{}, predicate.GenerationChangedPredicate{}))
	}
	if err := control.Complete(r); err != nil {
		return fmt.Errorf("adding the controller of the installation: %w", err)
	}
	return nil
}

// watch returns the events of a kind that pass the predicate.
func watch[T client.Object](mgr manager.Manager, kind T, matters predicate.TypedPredicate[T]) source.TypedSource[installation] {
	type queue = workqueue.TypedRateLimitingInterface[installation]
	return source.TypedKind(mgr.GetCache(), kind, handler.TypedFuncs[T, installation]{
		CreateFunc: func(_ context.Context, _ event.TypedCreateEvent[T], q queue) { q.Add(installation{}) },
		UpdateFunc: func(_ context.Context, _ event.TypedUpdateEvent[T], q queue) { q.Add(installation{}) },
		DeleteFunc: func(_ context.Context, _ event.TypedDeleteEvent[T], q queue) { q.Add(installation{}) },
	}, matters)
}

// Reconcile puts the guard into force, and then installs the agents.
func (r *Reconciler) Reconcile(ctx context.Context, _ installation) (reconcile.Result, error) {
	owner, err := r.owner(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	problem, err := r.enforceGuard(ctx, owner)
	if err != nil {
		return reconcile.Result{}, err // which says nothing of the guard
	}
	r.Guard.observe(problem)
	if problem != "" {
		klog.FromContext(ctx).V(1).Info("The guard of the agents is not in force yet", "problem", problem)
		return reconcile.Result{RequeueAfter: again}, nil
	}
	if r.Agent != nil {
		if err := r.installAgents(ctx, owner); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{RequeueAfter: routine}, nil
}

// owner returns the reference to what everything belongs to.
func (r *Reconciler) owner(ctx context.Context) (*metav1ac.OwnerReferenceApplyConfiguration, error) {
	crd := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{
		APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition",
	}}
	if err := r.API.Get(ctx, client.ObjectKey{Name: ownerName}, crd); err != nil {
		return nil, fmt.Errorf("reading CustomResourceDefinition %s: %w", ownerName, err)
	}
	return metav1ac.OwnerReference().
		WithAPIVersion(crd.APIVersion).WithKind(crd.Kind).WithName(crd.Name).WithUID(crd.UID), nil
}

// enforceGuard applies the guard and returns why it is not in force, or "". An error is a failure to find out.
func (r *Reconciler) enforceGuard(ctx context.Context, owner *metav1ac.OwnerReferenceApplyConfiguration) (string, error) {
	applied := renderGuard(r.Namespace, owner)
	for _, object := range []runtime.ApplyConfiguration{applied.policy, applied.binding} {
		if err := r.apply(ctx, object); err != nil {
			return asProblem(fmt.Errorf("applying the guard policy: %w", err))
		}
	}
	policy, binding := &admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}
	for _, object := range []client.Object{policy, binding} {
		if err := r.API.Get(ctx, client.ObjectKey{Name: GuardName}, object); err != nil {
			return asProblem(fmt.Errorf("reading the guard policy back: %w", err))
		}
	}
	// What was applied is by now what the API server made of it.
	if change, err := findChange(renderGuard(r.Namespace, owner), policy, binding); err != nil || change != "" {
		return change, err
	}
	if warning := findWarning(policy); warning != "" {
		return warning, nil
	}
	return r.tryGuard(ctx)
}

// tryGuard asks for something that the guard has to refuse. Nothing comes of it: it is a dry run.
func (r *Reconciler) tryGuard(ctx context.Context) (string, error) {
	err := r.API.Create(ctx, guardProbe(), client.DryRunAll)
	switch {
	case err == nil:
		return fmt.Sprintf("the API server does not act on ValidatingAdmissionPolicy %s: it allows what the policy forbids", GuardName), nil
	case apierrors.IsForbidden(err) && refusedBy(err.Error()):
		return "", nil
	default:
		return asProblem(fmt.Errorf("trying the guard policy: %w", err))
	}
}

// installAgents applies what runs the agents.
func (r *Reconciler) installAgents(ctx context.Context, owner *metav1ac.OwnerReferenceApplyConfiguration) error {
	addresses := slices.Clone(r.APIServers)
	published := &discoveryv1.EndpointSlice{}
	err := r.API.Get(ctx, client.ObjectKey{Namespace: apiserver.SliceNamespace, Name: apiserver.SliceName}, published)
	switch {
	case apierrors.IsNotFound(err): // whoever takes care of the API servers writes it by another name
	case err != nil:
		return fmt.Errorf("reading the EndpointSlice of the API servers: %w", err)
	default:
		addresses = append(addresses, apiserver.Addresses(published)...)
	}
	if err := r.apply(ctx, apiServers(r.Namespace, addresses, owner)); err != nil {
		return fmt.Errorf("applying ConfigMap %s: %w", APIServersName, err)
	}
	if err := r.apply(ctx, daemonSet(r.Namespace, *r.Agent, owner)); err != nil {
		return fmt.Errorf("applying DaemonSet %s: %w", AgentName, err)
	}
	return nil
}

func (r *Reconciler) apply(ctx context.Context, object runtime.ApplyConfiguration) error {
	return r.API.Apply(ctx, object, client.FieldOwner(FieldOwner), client.ForceOwnership)
}

// asProblem returns what an API server said no to as a problem of the guard, and anything else as the error that it is:
// a connection that fails says nothing of the guard.
func asProblem(err error) (string, error) {
	var status apierrors.APIStatus
	if meta.IsNoMatchError(err) || errors.As(err, &status) &&
		status.Status().Code >= http.StatusBadRequest && status.Status().Code < http.StatusInternalServerError &&
		!apierrors.IsConflict(err) && !apierrors.IsTooManyRequests(err) && !apierrors.IsUnauthorized(err) {
		return err.Error(), nil
	}
	return "", err
}
