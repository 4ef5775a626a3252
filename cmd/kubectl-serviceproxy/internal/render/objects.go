// Package render shows the rules of nodes that are not there yet: those that follow from files alone, and what files would
// change in a cluster.
package render

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

// objects are all that rules follow from.
type objects struct {
	configs      []v1alpha1.ServiceProxyConfig
	nodes        []corev1.Node
	services     []corev1.Service
	slices       []discoveryv1.EndpointSlice
	serviceCIDRs []networkingv1.ServiceCIDR
}

// seenFrom are the objects that the agent of a node reads.
func (o *objects) seenFrom(node *corev1.Node) *catalog.Objects {
	return &catalog.Objects{Node: *node, Services: o.services, Slices: o.slices, ServiceCIDRs: o.serviceCIDRs}
}

// named are the nodes of some names; all when there are none.
func (o *objects) named(names ...string) ([]*corev1.Node, error) {
	var all []string
	found := map[string]*corev1.Node{}
	for i := range o.nodes {
		all = append(all, o.nodes[i].Name)
		found[o.nodes[i].Name] = &o.nodes[i]
	}
	slices.Sort(all)
	if len(names) == 0 {
		names = all
	}
	var nodes []*corev1.Node
	for _, name := range names {
		node, exists := found[name]
		if !exists {
			return nil, access.NoSuch("node", name, all)
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// concerns says whether rules follow from objects of a kind.
func concerns(kind schema.GroupVersionKind) bool {
	switch kind.GroupKind() {
	case v1alpha1.GroupVersion().WithKind("ServiceProxyConfig").GroupKind(),
		corev1.SchemeGroupVersion.WithKind("Node").GroupKind(),
		corev1.SchemeGroupVersion.WithKind("Service").GroupKind(),
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice").GroupKind(),
		networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR").GroupKind():
		return true
	}
	return false
}

// put adds an object, or puts it in the place of the one of its name. Fields that the kind does not have are an error.
func (o *objects) put(u *unstructured.Unstructured) error {
	switch kind := u.GroupVersionKind(); kind {
	case v1alpha1.GroupVersion().WithKind("ServiceProxyConfig"):
		return put(&o.configs, u)
	case corev1.SchemeGroupVersion.WithKind("Node"):
		return put(&o.nodes, u)
	case corev1.SchemeGroupVersion.WithKind("Service"):
		return put(&o.services, u)
	case discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"):
		return put(&o.slices, u)
	case networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"):
		return put(&o.serviceCIDRs, u)
	default:
		return fmt.Errorf("%s %s is of %s, which is not read; the current version of its API would be right", kind.Kind, u.GetName(), kind.GroupVersion())
	}
}

func put[T any, P interface {
	*T
	client.Object
}](all *[]T, u *unstructured.Unstructured) error {
	var object T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, &object, true); err != nil {
		return fmt.Errorf("reading %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	for i := range *all {
		if old := P(&(*all)[i]); old.GetName() == u.GetName() && old.GetNamespace() == u.GetNamespace() {
			(*all)[i] = object
			return nil
		}
	}
	*all = append(*all, object)
	return nil
}

// live reads the objects of a cluster.
func live(ctx context.Context, api client.Reader) (*objects, error) {
	var (
		configs      v1alpha1.ServiceProxyConfigList
		nodes        corev1.NodeList
		services     corev1.ServiceList
		endpoints    discoveryv1.EndpointSliceList
		serviceCIDRs networkingv1.ServiceCIDRList
	)
	for _, list := range []client.ObjectList{&configs, &nodes, &services, &endpoints, &serviceCIDRs} {
		err := api.List(ctx, list)
		if list == client.ObjectList(&serviceCIDRs) && (apierrors.IsNotFound(err) || meta.IsNoMatchError(err)) {
			err = nil // it is there since Kubernetes 1.33, and agents do without it too
		}
		if err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, access.Explained(err))
		}
	}
	return &objects{configs.Items, nodes.Items, services.Items, endpoints.Items, serviceCIDRs.Items}, nil
}

// inFiles reads the objects in files from which rules follow, and says of which other kinds there are some. Those that belong to
// a namespace and name none are in the one that is meant.
func inFiles(files *genericclioptions.FileNameFlags, f *access.Factory, errOut io.Writer) ([]*unstructured.Unstructured, error) {
	options := files.ToOptions()
	if err := options.RequireFilenameOrKustomize(); err != nil {
		return nil, err
	}
	namespace, err := f.Namespace()
	if err != nil {
		return nil, err
	}
	infos, err := resource.NewLocalBuilder().Unstructured().FilenameParam(false, &options).Flatten().Do().Infos()
	if err != nil {
		return nil, fmt.Errorf("reading files: %w", err)
	}
	var found []*unstructured.Unstructured
	var others []string
	for _, info := range infos {
		u, is := info.Object.(*unstructured.Unstructured)
		if !is {
			return nil, fmt.Errorf("reading %s: it holds %T and no object", info.Source, info.Object)
		}
		kind := u.GroupVersionKind()
		if !concerns(kind) {
			others = append(others, kind.Kind)
			continue
		}
		if u.GetNamespace() == "" && (kind.Kind == "Service" || kind.Kind == "EndpointSlice") {
			u.SetNamespace(namespace)
		}
		found = append(found, u)
	}
	if slices.Sort(others); len(others) > 0 {
		_, err = fmt.Fprintln(errOut, "passed over, since no rule follows from them:", strings.Join(slices.Compact(others), ", "))
	}
	return found, err
}
