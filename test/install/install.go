// Package install installs service-proxy-operator on a test cluster as people do, with kubectl, and runs the operator and
// the agents as processes with the rights of their service accounts: what a Deployment and a DaemonSet would run. An agent
// has the token of a Pod on its node, as it would from a kubelet, so that the guard policy lets it report.
package install

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	installer "github.com/serviceproxy/service-proxy-operator/controllers/install"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// The namespace that config/default installs into, and the service accounts in it.
const (
	Namespace       = "service-proxy-system"
	operatorAccount = "service-proxy-operator"
	agentAccount    = "service-proxy-agent"
)

// Options say what to install.
type Options struct {
	// Root is the folder of the repository: manifests are in config, programs in bin.
	Root string
	// Verbosity is the level of logging of operator and agents.
	Verbosity int
}

// Installation is an operator and agents on a cluster. All of it ends with the cluster.
type Installation struct {
	cluster *cluster.Cluster
	options Options

	mu          sync.Mutex
	operator    *cluster.Process
	agents      map[string]*cluster.Process
	kubeconfigs map[string]string // of agents, by the names of their nodes
}

// Start applies config/default, and starts the operator and an agent on every node of the cluster.
func Start(ctx context.Context, c *cluster.Cluster, options Options) (*Installation, error) {
	i := &Installation{cluster: c, options: options, agents: map[string]*cluster.Process{}, kubeconfigs: map[string]string{}}
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "--kustomize", filepath.Join(options.Root, "config", "default")); err != nil {
		return nil, fmt.Errorf("applying config/default: %w", err)
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=30s", "crd",
		"serviceproxyconfigs.serviceproxy.io", "serviceproxynodes.serviceproxy.io"); err != nil {
		return nil, fmt.Errorf("waiting for the CRDs: %w", err)
	}
	if err := i.StartOperator(ctx); err != nil {
		return nil, err
	}
	for _, node := range c.Nodes() {
		if err := i.StartAgent(ctx, node); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// OperatorProcess is an operator as StartOperator starts it, for whoever wants to start another one.
func (i *Installation) OperatorProcess(ctx context.Context) (cluster.ProcessSpec, error) {
	kubeconfig, err := i.cluster.ServiceAccountKubeconfig(ctx, Namespace, operatorAccount)
	if err != nil {
		return cluster.ProcessSpec{}, err
	}
	return cluster.ProcessSpec{
		Path: i.program("operator"),
		Args: []string{"--kubeconfig=" + kubeconfig, "--agent=external", "--leader-elect", "--leader-elect-namespace=" + Namespace,
			fmt.Sprintf("-v=%d", i.options.Verbosity)},
	}, nil
}

// StartOperator starts the operator, beside the control plane.
func (i *Installation) StartOperator(ctx context.Context) error {
	spec, err := i.OperatorProcess(ctx)
	if err != nil {
		return err
	}
	p, err := i.cluster.ControlPlane().Start(spec)
	if err != nil {
		return fmt.Errorf("starting the operator: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.operator = p
	return nil
}

// AgentProcess is the agent of a node as StartAgent starts it, for whoever wants it to start otherwise.
func (i *Installation) AgentProcess(ctx context.Context, node *cluster.Node, env ...string) (cluster.ProcessSpec, error) {
	kubeconfig, err := i.agentKubeconfig(ctx, node)
	if err != nil {
		return cluster.ProcessSpec{}, err
	}
	files, err := node.Dir()
	if err != nil {
		return cluster.ProcessSpec{}, err
	}
	return cluster.ProcessSpec{
		Name: "agent",
		Path: "setpriv",
		Args: append(confinement(),
			i.AgentProgram(), "--kubeconfig="+kubeconfig, "--node-name="+node.Name,
			"--state-dir="+filepath.Join(files, "service-proxy"), "--probe-bind-address=127.0.0.1:10266",
			fmt.Sprintf("-v=%d", i.options.Verbosity)),
		Env: env,
	}, nil
}

// confinement returns, as arguments of setpriv, what the DaemonSet leaves to an agent, apart from mounts.
func confinement() []string {
	kept := []string{"-all"}
	for _, capability := range installer.Capabilities() {
		kept = append(kept, "+"+strings.ToLower(string(capability)))
	}
	capabilities := strings.Join(kept, ",")
	return []string{"--bounding-set=" + capabilities, "--inh-caps=" + capabilities, "--no-new-privs"}
}

// AgentProgram is the path of the agent, for what it does besides running.
func (i *Installation) AgentProgram() string { return i.program("agent") }

// agentKubeconfig returns the kubeconfig of the agent of a node. It is made once, so that an agent can start again while
// the API server is away, as one can with the token that a kubelet has mounted.
func (i *Installation) agentKubeconfig(ctx context.Context, node *cluster.Node) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if path, made := i.kubeconfigs[node.Name]; made {
		return path, nil
	}
	pod, err := i.agentPod(ctx, node)
	if err != nil {
		return "", err
	}
	path, err := i.cluster.BoundKubeconfig(ctx, pod)
	if err != nil {
		return "", err
	}
	i.kubeconfigs[node.Name] = path
	return path, nil
}

// agentPod returns the Pod that the agent of a node would run in, and makes it if it is not there. Nothing runs it.
func (i *Installation) agentPod(ctx context.Context, node *cluster.Node) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: agentAccount + "-" + node.Name},
		Spec: corev1.PodSpec{
			NodeName: node.Name, ServiceAccountName: agentAccount, HostNetwork: true,
			Containers: []corev1.Container{{Name: "agent", Image: "agent"}},
		},
	}
	api := i.cluster.Client()
	err := api.Create(ctx, pod)
	if apierrors.IsAlreadyExists(err) {
		err = api.Get(ctx, client.ObjectKeyFromObject(pod), pod)
	}
	if err != nil {
		return nil, fmt.Errorf("making the Pod of the agent of node %s: %w", node.Name, err)
	}
	return pod, nil
}

// StartAgent starts the agent of a node, also again after it was stopped. env is added to its environment.
func (i *Installation) StartAgent(ctx context.Context, node *cluster.Node, env ...string) error {
	return i.StartAgentAs(ctx, node, func(spec *cluster.ProcessSpec) { spec.Env = append(spec.Env, env...) })
}

// StartAgentAs is StartAgent where something of how the agent starts is changed.
func (i *Installation) StartAgentAs(ctx context.Context, node *cluster.Node, change func(*cluster.ProcessSpec)) error {
	spec, err := i.AgentProcess(ctx, node)
	if err != nil {
		return err
	}
	change(&spec)
	p, err := node.Start(spec)
	if err != nil {
		return fmt.Errorf("starting the agent of node %s: %w", node.Name, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.agents[node.Name] = p
	return nil
}

// Operator is the process of the operator that was started last.
func (i *Installation) Operator() *cluster.Process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.operator
}

// Agent is the process of the agent of a node that was started last.
func (i *Installation) Agent(node string) *cluster.Process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.agents[node]
}

func (i *Installation) program(name string) string { return filepath.Join(i.options.Root, "bin", name) }
