package access

import (
	"context"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// agentAccount is the service account of all agents, and agentContainer the container that they are in.
const (
	agentAccount   = "service-proxy-agent"
	agentContainer = "agent"
)

// ErrNoAgent is the error of AgentPod for a node that has none.
var ErrNoAgent = errors.New("no Pod of an agent is on the node")

// AgentPod returns the Pod of the agent of a node.
func (f *Factory) AgentPod(ctx context.Context, api client.Reader, node string) (*corev1.Pod, error) {
	var pods corev1.PodList
	err := api.List(ctx, &pods, client.InNamespace(f.OperatorNamespace), client.MatchingFields{"spec.nodeName": node})
	if err != nil {
		return nil, fmt.Errorf("looking for the agent of node %s: %w", node, err)
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; IsAgent(pod) {
			return pod, nil
		}
	}
	return nil, fmt.Errorf("looking for the agent of node %s in namespace %s: %w", node, f.OperatorNamespace, ErrNoAgent)
}

// IsAgent tells whether a Pod of the namespace of the operator is that of an agent, and is to stay.
func IsAgent(pod *corev1.Pod) bool {
	return pod.Spec.ServiceAccountName == agentAccount && pod.DeletionTimestamp == nil
}

// Exec runs a command in the container of an agent, as kubectl exec does, and returns when it has ended. The error wraps
// that of the command if it failed.
func (f *Factory) Exec(ctx context.Context, pod *corev1.Pod, out, errOut io.Writer, command ...string) error {
	config, err := f.RESTConfig()
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	request := api.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: agentContainer, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := newExecutor(config, request)
	if err != nil {
		return fmt.Errorf("preparing to run a command in pod %s: %w", pod.Name, err)
	}
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: out, Stderr: errOut}); err != nil {
		return fmt.Errorf("running %s in pod %s/%s: %w", command[0], pod.Namespace, pod.Name, err)
	}
	return nil
}

// newExecutor speaks WebSockets, and SPDY where the API server or a proxy before it does not.
func newExecutor(config *rest.Config, request *rest.Request) (remotecommand.Executor, error) {
	spdy, err := remotecommand.NewSPDYExecutor(config, "POST", request.URL())
	if err != nil {
		return nil, err
	}
	websocket, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}
