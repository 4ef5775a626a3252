package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// pollInterval is how often the API server is asked for what the cluster waits for.
const pollInterval = 25 * time.Millisecond

func newClient(config *rest.Config) (client.Client, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	result, err := client.New(config, client.Options{Scheme: scheme, Log: klog.Background()})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return result, nil
}

// waitForControllers waits until kube-controller-manager works: it has made the first service account.
func (c *Cluster) waitForControllers(ctx context.Context) error {
	key := client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "default"}
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		return c.client.Get(ctx, key, &corev1.ServiceAccount{}) == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for kube-controller-manager: %w", err)
	}
	return nil
}

// WaitForEndpoints waits until the EndpointSlices of a Service hold exactly n ready endpoints in each of its IP
// families. A proxy may need a moment longer.
func (c *Cluster) WaitForEndpoints(ctx context.Context, namespace, service string, n int) error {
	var object corev1.Service
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: service}, &object); err != nil {
		return fmt.Errorf("waiting for endpoints: %w", err)
	}
	var ready map[discoveryv1.AddressType]int
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		var slices discoveryv1.EndpointSliceList
		if err := c.client.List(ctx, &slices, client.InNamespace(namespace),
			client.MatchingLabels{discoveryv1.LabelServiceName: service}); err != nil {
			return false, err
		}
		ready = readyEndpoints(slices.Items)
		for _, family := range object.Spec.IPFamilies {
			if count, made := ready[discoveryv1.AddressType(family)]; !made || count != n {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %d ready endpoints of %s/%s, which has %v: %w", n, namespace, service, ready, err)
	}
	return nil
}

// readyEndpoints counts ready endpoints by the family of their addresses, each once: for a moment an endpoint may be in
// two slices.
func readyEndpoints(slices []discoveryv1.EndpointSlice) map[discoveryv1.AddressType]int {
	ready, seen := map[discoveryv1.AddressType]int{}, map[string]bool{}
	for _, slice := range slices {
		ready[slice.AddressType] += 0
		for _, endpoint := range slice.Endpoints {
			isReady := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if address := endpoint.Addresses[0]; isReady && !seen[address] {
				seen[address] = true
				ready[slice.AddressType]++
			}
		}
	}
	return ready
}

// Kubectl runs kubectl as a cluster administrator and returns what it wrote to standard output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, "", args...)
}

// KubectlApply applies manifests, in YAML, as a person would.
func (c *Cluster) KubectlApply(ctx context.Context, manifests string) (string, error) {
	return c.kubectl(ctx, manifests, "apply", "--filename=-")
}

func (c *Cluster) kubectl(ctx context.Context, input string, args ...string) (string, error) {
	// What kubectl caches belongs to this cluster and not into the home of whoever runs it.
	flags := []string{"--kubeconfig=" + c.Kubeconfig(), "--cache-dir=" + c.dir.path("kubectl")}
	return c.launcher.run(ctx, ProcessSpec{
		Path:  c.controlPlane.programs[binaries.Kubectl],
		Args:  append(flags, args...),
		Stdin: strings.NewReader(input),
	}, nil, nil)
}
