package config

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// The history of settings is kept in ControllerRevisions, as that of Deployments is in ReplicaSets. They have the names
// that nodes and statuses use, and v1alpha1.LabelConfig.
const (
	// annotationHashVersion is how the name of the revision was made: see planner.HashVersion.
	annotationHashVersion = "serviceproxy.io/hash-version"
	// annotationOnRelease is spec.onRelease of the config, for when it is gone.
	annotationOnRelease = "serviceproxy.io/on-release"
)

// ofConfigs selects the ControllerRevisions that are ours, and not those of DaemonSets.
func ofConfigs() labels.Selector {
	exists, err := labels.NewRequirement(v1alpha1.LabelConfig, selection.Exists, nil)
	if err != nil {
		panic(fmt.Sprintf("a label of ours is a valid one: %v", err))
	}
	return labels.NewSelector().Add(*exists)
}

// decode returns what a ControllerRevision stands for. Fields that this release does not know are left out.
func decode(object *appsv1.ControllerRevision) (planner.Revision, error) {
	revision := planner.Revision{
		Name: object.Name, Config: object.Labels[v1alpha1.LabelConfig], Number: object.Revision,
		OnRelease: v1alpha1.ReleasePolicy(object.Annotations[annotationOnRelease]),
	}
	if err := json.Unmarshal(object.Data.Raw, &revision.Settings); err != nil {
		return planner.Revision{}, fmt.Errorf("reading the settings in ControllerRevision %s: %w", object.Name, err)
	}
	return revision, nil
}

// keep writes the revisions that are not as planned. The data of one that exists cannot change, and does not: it means
// the same.
func (r *Reconciler) keep(
	ctx context.Context, present map[string]*appsv1.ControllerRevision, revisions []planner.Revision,
) error {
	for _, revision := range revisions {
		data, err := json.Marshal(revision.Settings)
		if err != nil {
			return fmt.Errorf("encoding revision %s: %w", revision.Name, err)
		}
		version := planner.HashVersion
		if before := present[revision.Name]; before != nil {
			if before.Revision == revision.Number &&
				before.Annotations[annotationOnRelease] == string(revision.OnRelease) {
				continue
			}
			data, version = before.Data.Raw, before.Annotations[annotationHashVersion]
		}
		object := appsv1ac.ControllerRevision(revision.Name, r.Namespace).
			WithLabels(map[string]string{v1alpha1.LabelConfig: revision.Config}).
			WithAnnotations(map[string]string{annotationHashVersion: version}).
			WithRevision(revision.Number).WithData(runtime.RawExtension{Raw: data})
		if revision.OnRelease != "" {
			object.WithAnnotations(map[string]string{annotationOnRelease: string(revision.OnRelease)})
		}
		if err := r.Client.Apply(ctx, object, client.FieldOwner(FieldOwner), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying ControllerRevision %s: %w", revision.Name, err)
		}
	}
	return nil
}

// forget deletes revisions that nobody needs any more.
func (r *Reconciler) forget(ctx context.Context, names []string) error {
	for _, name := range names {
		object := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: name}}
		if err := r.Client.Delete(ctx, object); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting ControllerRevision %s: %w", name, err)
		}
	}
	return nil
}
