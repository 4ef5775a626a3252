package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// patience is how long a shell waits for names.
const patience = 3 * time.Second

// CompletePools completes the name of a pool as the first argument.
func (f *Factory) CompletePools() cobra.CompletionFunc {
	return f.first(v1alpha1.GroupVersion().WithKind("ServiceProxyConfig"), false)
}

// CompleteNodes completes the name of a Node as the first argument.
func (f *Factory) CompleteNodes() cobra.CompletionFunc {
	return f.first(corev1.SchemeGroupVersion.WithKind("Node"), false)
}

// CompleteServices completes the name of a Service in the namespace that is meant, as the first argument.
func (f *Factory) CompleteServices() cobra.CompletionFunc {
	return f.first(corev1.SchemeGroupVersion.WithKind("Service"), true)
}

func (f *Factory) first(kind schema.GroupVersionKind, namespaced bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), patience)
		defer cancel()
		names, err := f.Names(ctx, kind, namespaced)
		if err != nil {
			cobra.CompErrorln(err.Error())
			return nil, cobra.ShellCompDirectiveError
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, begun) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// Names returns the names of all objects of a kind, in order; in the namespace that is meant if they have one.
func (f *Factory) Names(ctx context.Context, kind schema.GroupVersionKind, namespaced bool) ([]string, error) {
	api, err := f.Client()
	if err != nil {
		return nil, err
	}
	var within []client.ListOption
	if namespaced {
		namespace, err := f.Namespace()
		if err != nil {
			return nil, err
		}
		within = append(within, client.InNamespace(namespace))
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	if err := api.List(ctx, list, within...); err != nil {
		return nil, fmt.Errorf("listing %s objects: %w", kind.Kind, Explained(err))
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

// Explained says of an error of the API server what it means here, where that is not plain from its words.
func Explained(err error) error {
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("service-proxy-operator is not installed in this cluster (its kinds are missing): %w", err)
	}
	return err
}
