// Package scene is a small cluster to look at: three nodes in two pools, five pods, and a Service of each kind that the
// demo talks to. `make dev` leaves the same one running.
package scene

import (
	"context"
	_ "embed"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// Services are the Services, as somebody would write them.
//
//go:embed services.yaml
var Services string

// EdgeNode is the node of the pool edge, which config/samples gives settings of its own.
const EdgeNode = "c"

// Nodes are the names of the nodes.
func Nodes() []string { return []string{"a", "b", EdgeNode} }

// LabelPools puts the nodes into their pools, with kubectl.
func LabelPools(ctx context.Context, c *cluster.Cluster) error {
	_, err := c.Kubectl(ctx, "label", "node", EdgeNode, "example.com/pool=edge")
	return err
}

// RunPods runs the pods behind the Services on nodes a and b, and one pod "client" on node a that no Service selects.
func RunPods(ctx context.Context, c *cluster.Cluster) (map[string]*cluster.Pod, error) {
	specs := []cluster.PodSpec{{Name: "client", Node: "a"}}
	for i, node := range []string{"a", "a", "b", "b"} {
		specs = append(specs, cluster.PodSpec{
			Name: fmt.Sprintf("web-%d", i+1), Node: node, Labels: map[string]string{"app": "web"},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "admin", ContainerPort: 9000}},
		})
	}
	for i, node := range []string{"a", "b"} {
		specs = append(specs, cluster.PodSpec{
			Name: fmt.Sprintf("dns-%d", i+1), Node: node, Labels: map[string]string{"app": "dns"},
			Ports: []corev1.ContainerPort{{Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP}},
		})
	}
	running, err := c.RunPods(ctx, specs...)
	if err != nil {
		return nil, err
	}
	pods := map[string]*cluster.Pod{}
	for _, pod := range running {
		pods[pod.Name] = pod
	}
	return pods, nil
}

// Address is where a Service listens: a cluster IP and a port.
type Address struct{ IPv4, IPv6 string }

// AddressOf returns where a port of a Service listens.
func AddressOf(ctx context.Context, c *cluster.Cluster, service, port string) (Address, error) {
	var s corev1.Service
	if err := c.Client().Get(ctx, client.ObjectKey{Namespace: "default", Name: service}, &s); err != nil {
		return Address{}, fmt.Errorf("reading Service %s: %w", service, err)
	}
	for _, p := range s.Spec.Ports {
		if p.Name == port && len(s.Spec.ClusterIPs) == 2 {
			number := intstr.FromInt32(p.Port)
			return Address{
				IPv4: s.Spec.ClusterIPs[0] + ":" + number.String(),
				IPv6: "[" + s.Spec.ClusterIPs[1] + "]:" + number.String(),
			}, nil
		}
	}
	return Address{}, fmt.Errorf("no dual-stack port %q in Service %s", port, service)
}
