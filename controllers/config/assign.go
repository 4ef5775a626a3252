package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	applyv1alpha1 "github.com/serviceproxy/service-proxy-operator/api/applyconfiguration/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// writers is the number of ServiceProxyNodes written at the same time. The client has no other limit, and 5000 nodes
// must not make the operator a burden to the API server.
const writers = 8

// assignTime is how long one pass goes on assigning. What is left is for the next pass, which has a fresh plan, so a
// config that was just changed does not wait until thousands of nodes have got the settings that it replaces.
const assignTime = 2 * time.Second

// assign writes the ServiceProxyNodes that are not as planned, and tells whether all were written or tried. The error
// joins those of all nodes that failed.
func (r *Reconciler) assign(
	ctx context.Context, objects []v1alpha1.ServiceProxyNode, assignments []planner.Assignment,
) (done bool, err error) {
	present := make(map[string]*v1alpha1.ServiceProxyNode, len(objects))
	for i := range objects {
		present[objects[i].Name] = &objects[i]
	}
	var group errgroup.Group // without a context: one failure does not stop the others
	group.SetLimit(writers)
	errs := make([]error, len(assignments))
	begin := r.Clock.Now()
	done = true
	for i, assignment := range assignments {
		if isCarriedOut(assignment, present[assignment.Node]) {
			continue
		}
		if done = r.Clock.Since(begin) < assignTime; !done {
			break
		}
		group.Go(func() error {
			errs[i] = r.write(ctx, assignment)
			r.Metrics.assigned(errs[i])
			return nil
		})
	}
	_ = group.Wait() // every error is in errs
	return done, errors.Join(errs...)
}

// isCarriedOut tells whether the object is what the assignment asks for.
func isCarriedOut(assignment planner.Assignment, object *v1alpha1.ServiceProxyNode) bool {
	return object != nil && object.UID != assignment.Replaces &&
		object.Labels[v1alpha1.LabelConfig] == assignment.Spec.ConfigRef.Name &&
		slices.ContainsFunc(object.OwnerReferences, func(owner metav1.OwnerReference) bool {
			return owner.Kind == "Node" && owner.UID == assignment.UID
		}) &&
		apiequality.Semantic.DeepEqual(object.Spec, assignment.Spec) &&
		!slices.ContainsFunc(planner.Annotations(), func(key string) bool {
			return object.Annotations[key] != assignment.Annotations[key]
		})
}

// write carries out one assignment.
func (r *Reconciler) write(ctx context.Context, assignment planner.Assignment) error {
	if assignment.Replaces != "" {
		before := &v1alpha1.ServiceProxyNode{ObjectMeta: metav1.ObjectMeta{Name: assignment.Node}}
		err := r.Client.Delete(ctx, before, client.Preconditions{UID: &assignment.Replaces})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting ServiceProxyNode %s to make it anew: %w", assignment.Node, err)
		}
	}
	spec := applyv1alpha1.ServiceProxyNodeSpec()
	if err := convert(assignment.Spec, spec); err != nil {
		return fmt.Errorf("rendering ServiceProxyNode %s: %w", assignment.Node, err)
	}
	object := applyv1alpha1.ServiceProxyNode(assignment.Node).
		WithLabels(map[string]string{v1alpha1.LabelConfig: assignment.Spec.ConfigRef.Name}).
		WithOwnerReferences(metav1ac.OwnerReference().
			WithAPIVersion("v1").WithKind("Node").WithName(assignment.Node).WithUID(assignment.UID)).
		WithAnnotations(assignment.Annotations).
		WithSpec(spec)
	if err := r.Client.Apply(ctx, object, client.FieldOwner(FieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying ServiceProxyNode %s: %w", assignment.Node, err)
	}
	klog.FromContext(ctx).V(2).Info("Assigned", "node", assignment.Node, "revision", assignment.Spec.Revision)
	return nil
}

// convert makes an apply configuration from the type it was generated for: both have one JSON form.
func convert(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}
