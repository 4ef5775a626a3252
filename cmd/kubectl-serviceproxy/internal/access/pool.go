package access

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// Pool returns a pool. The error for a name that none has tells which one was probably meant.
func Pool(ctx context.Context, api client.Reader, name string) (*v1alpha1.ServiceProxyConfig, error) {
	config := &v1alpha1.ServiceProxyConfig{}
	err := api.Get(ctx, client.ObjectKey{Name: name}, config)
	if err == nil {
		return config, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading pool %s: %w", name, Explained(err))
	}
	var all v1alpha1.ServiceProxyConfigList
	if err := api.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("listing pools: %w", Explained(err))
	}
	var names []string
	for i := range all.Items {
		names = append(names, all.Items[i].Name)
	}
	slices.Sort(names)
	return nil, NoSuch("pool", name, names)
}
