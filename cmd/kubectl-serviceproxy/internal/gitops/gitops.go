// Package gitops tells whether an object is kept as it is in Git, so that what people change by hand will be undone.
package gitops

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Keeper is a tool that keeps an object as it is in Git.
type Keeper struct {
	// Tool and Source say who: "Flux" and "Kustomization flux-system/configs".
	Tool, Source string
	// Suspend is the command that makes it stop for a while.
	Suspend string

	fields  []fields
	unknown bool // which fields it writes
}

// fields is a set of fields as managedFields has it: keys are f:NAME, and the fields of a field are in its value.
type fields map[string]json.RawMessage

// KeeperOf returns who keeps an object, or nil if nobody is known to.
//
// Argo CD marks objects with an annotation (https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/), Flux
// with labels (https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources).
func KeeperOf(object metav1.Object) *Keeper {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	var keeper *Keeper
	var managers []string
	app, _, _ := strings.Cut(annotations["argocd.argoproj.io/tracking-id"], ":")
	switch kustomization, release := labels["kustomize.toolkit.fluxcd.io/name"], labels["helm.toolkit.fluxcd.io/name"]; {
	case kustomization != "":
		keeper = flux("Kustomization", "kustomization", labels["kustomize.toolkit.fluxcd.io/namespace"], kustomization)
		managers = []string{"kustomize-controller"}
	case release != "":
		keeper = flux("HelmRelease", "helmrelease", labels["helm.toolkit.fluxcd.io/namespace"], release)
		managers = []string{"helm-controller"}
	case app != "":
		keeper = &Keeper{Tool: "Argo CD", Source: "Application " + app, Suspend: "argocd app set " + app + " --sync-policy none"}
		managers = []string{"argocd-controller", "argocd-application-controller"}
	default:
		return nil
	}
	for _, entry := range object.GetManagedFields() {
		var owned fields
		if slices.Contains(managers, entry.Manager) && entry.FieldsV1 != nil && json.Unmarshal(entry.FieldsV1.GetRawBytes(), &owned) == nil {
			keeper.fields = append(keeper.fields, owned)
		}
	}
	keeper.unknown = len(keeper.fields) == 0
	return keeper
}

func flux(kind, resource, namespace, name string) *Keeper {
	return &Keeper{
		Tool: "Flux", Source: kind + " " + namespace + "/" + name,
		Suspend: fmt.Sprintf("flux suspend %s %s -n %s", resource, name, namespace),
	}
}

// Writes tells whether the keeper writes a field, given as spec.rollout.state: both tools leave fields alone that are not
// in Git. Where it is not known what it writes, it is taken to write everything.
func (k *Keeper) Writes(path string) bool {
	return k.unknown || slices.ContainsFunc(k.fields, func(f fields) bool { return f.has(strings.Split(path, ".")) })
}

func (f fields) has(path []string) bool {
	if len(path) == 0 {
		return true
	}
	raw, exists := f["f:"+path[0]]
	if !exists {
		return false
	}
	var below fields
	if json.Unmarshal(raw, &below) != nil || len(below) == 0 {
		return true // it is written as a whole
	}
	return below.has(path[1:])
}

// Warning says what will become of a change of fields, or nothing if the keeper writes none of them.
func (k *Keeper) Warning(paths ...string) string {
	var written []string
	for _, path := range paths {
		if k.Writes(path) {
			written = append(written, path)
		}
	}
	if len(written) == 0 {
		return ""
	}
	const few = 3
	names := strings.Join(written[:min(few, len(written))], ", ")
	if more := len(written) - few; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s (%s) keeps this pool as it is in Git and will undo the change of %s. "+
		"Change it in Git instead, or run this before: %s", k.Tool, k.Source, names, k.Suspend)
}
