// Package install installs service-proxy-operator on a test cluster as people do, with kubectl, and runs the operator and
// the agents as processes with the rights of their service accounts: what a Deployment and a DaemonSet would run.
package install

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

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
	cluster    *cluster.Cluster
	options    Options
	kubeconfig string // of the agents

	mu       sync.Mutex
	operator *cluster.Process
	agents   map[string]*cluster.Process
}

// Start applies config/default, and starts the operator and an agent on every node of the cluster.
func Start(ctx context.Context, c *cluster.Cluster, options Options) (*Installation, error) {
	i := &Installation{cluster: c, options: options, agents: map[string]*cluster.Process{}}
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
	var err error
	if i.kubeconfig, err = c.ServiceAccountKubeconfig(ctx, Namespace, agentAccount); err != nil {
		return nil, err
	}
	for _, node := range c.Nodes() {
		if err := i.StartAgent(node); err != nil {
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
func (i *Installation) AgentProcess(node *cluster.Node, env ...string) cluster.ProcessSpec {
	return cluster.ProcessSpec{
		Path: i.program("agent"),
		Args: []string{"--kubeconfig=" + i.kubeconfig, "--node-name=" + node.Name, fmt.Sprintf("-v=%d", i.options.Verbosity)},
		Env:  env,
	}
}

// StartAgent starts the agent of a node, also again after it was stopped. env is added to its environment.
func (i *Installation) StartAgent(node *cluster.Node, env ...string) error {
	p, err := node.Start(i.AgentProcess(node, env...))
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
