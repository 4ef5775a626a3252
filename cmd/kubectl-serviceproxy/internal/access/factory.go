// Package access is how commands reach a cluster: with the flags, the kubeconfig and the rights that kubectl has.
package access

import (
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// FieldManager is the field manager of everything that commands write.
const FieldManager = "kubectl-serviceproxy"

// Factory makes clients when commands ask for them, which is after flags have been read.
type Factory struct {
	flags *genericclioptions.ConfigFlags
	// OperatorNamespace is where the operator, its agents and the history of settings are.
	OperatorNamespace string
}

// NewFactory returns a factory with the defaults of kubectl.
func NewFactory() *Factory {
	return &Factory{flags: genericclioptions.NewConfigFlags(true)}
}

// AddFlags adds the flags of kubectl that say which cluster is meant, and where in it the operator is.
func (f *Factory) AddFlags(flags *pflag.FlagSet) {
	f.flags.AddFlags(flags)
	flags.StringVar(&f.OperatorNamespace, "operator-namespace", "service-proxy-system",
		"namespace of the operator, the agents and the history of settings")
}

// RESTConfig returns how the API server is reached. It has no limit of its own: the API server has fair ones.
func (f *Factory) RESTConfig() (*rest.Config, error) {
	config, err := f.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS = -1
	return config, nil
}

// Namespace returns the namespace that --namespace, or else the kubeconfig, says.
func (f *Factory) Namespace() (string, error) {
	namespace, _, err := f.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", fmt.Errorf("reading the namespace from the kubeconfig: %w", err)
	}
	return namespace, nil
}

// Client returns a client that knows the kinds of Kubernetes and ours. What it writes is FieldManager's.
func (f *Factory) Client() (client.WithWatch, error) {
	config, err := f.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	api, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return api, nil
}

// Scheme returns the kinds of Kubernetes and ours.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering types: %w", err)
		}
	}
	return scheme, nil
}
