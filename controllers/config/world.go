package config

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// ReadWorld returns what the operator in a namespace makes its plans of, for whoever wants to know what it decides and
// why. The time is left to the caller; Hold is not known to anybody but the operator, who says it in statuses.
func ReadWorld(ctx context.Context, api client.Reader, namespace string) (planner.World, error) {
	now, err := read(ctx, api, namespace)
	return now.World, err
}

// ReadRevisions returns the settings that a config has or had, the latest first. The namespace is that of the operator.
func ReadRevisions(ctx context.Context, api client.Reader, namespace, config string) ([]planner.Revision, error) {
	var objects appsv1.ControllerRevisionList
	err := api.List(ctx, &objects, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelConfig: config})
	if err != nil {
		return nil, fmt.Errorf("listing the revisions of %s: %w", config, err)
	}
	revisions := make([]planner.Revision, 0, len(objects.Items))
	for i := range objects.Items {
		revision, err := decode(&objects.Items[i])
		if err != nil {
			return nil, err
		}
		revisions = append(revisions, revision)
	}
	slices.SortFunc(revisions, func(a, b planner.Revision) int { return cmp.Compare(b.Number, a.Number) })
	return revisions, nil
}

// observed is the world with what it was made of.
type observed struct {
	planner.World
	revisions map[string]*appsv1.ControllerRevision
}

// read returns the world as a reader has it. Nothing in it may be changed: it may be shared with a cache.
func read(ctx context.Context, api client.Reader, namespace string) (observed, error) {
	var (
		configs   v1alpha1.ServiceProxyConfigList
		objects   v1alpha1.ServiceProxyNodeList
		nodes     corev1.NodeList
		revisions appsv1.ControllerRevisionList
		agents    appsv1.DaemonSetList
		pods      corev1.PodList
	)
	within := client.InNamespace(namespace)
	for _, list := range []struct {
		of      client.ObjectList
		options []client.ListOption
	}{
		{&configs, nil},
		{&objects, nil},
		{&nodes, nil},
		{&revisions, []client.ListOption{within, client.MatchingLabelsSelector{Selector: ofConfigs()}}},
		{&agents, []client.ListOption{within}},
		{&pods, []client.ListOption{within, client.MatchingLabels(agentLabels())}},
	} {
		if err := api.List(ctx, list.of, append(list.options, client.UnsafeDisableDeepCopy)...); err != nil {
			return observed{}, fmt.Errorf("listing %T: %w", list.of, err)
		}
	}
	now := observed{
		World: planner.World{
			Configs: configs.Items, Objects: objects.Items, Updating: updating(agents.Items),
			Nodes: make([]planner.Node, 0, len(nodes.Items)),
		},
		revisions: map[string]*appsv1.ControllerRevision{},
	}
	down := agentsDown(pods.Items)
	for i := range nodes.Items {
		node := plannerNode(&nodes.Items[i])
		node.AgentDown = down[node.Name]
		now.Nodes = append(now.Nodes, node)
	}
	for i := range revisions.Items {
		revision := &revisions.Items[i]
		settings, err := decode(revision)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Ignoring a revision that cannot be read", "revision", klog.KObj(revision))
			continue
		}
		now.revisions[revision.Name] = revision
		now.Revisions = append(now.Revisions, settings)
	}
	return now, nil
}
