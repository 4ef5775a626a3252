package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// PodSpec is a pod to run.
type PodSpec struct {
	// Namespace must exist; "default" if empty.
	Namespace string
	// Name is also how the pod answers.
	Name string
	// Node is the name of the node it runs on.
	Node string
	// Labels are what Services select.
	Labels map[string]string
	// Ports are what its server listens on. One without a protocol is TCP; SCTP is declared but not served.
	Ports []corev1.ContainerPort
	// HostNetwork puts it into the network of its node, with the node's addresses.
	HostNetwork bool
	// NotReady leaves its Ready condition False until SetReady.
	NotReady bool
}

// Pod is a pod that runs: a host with a server on its ports, and the Pod in the API that says so.
type Pod struct {
	// Host is the pod's own; in the host network it is that of the node.
	*Host
	// Namespace and Name are those of the Pod.
	Namespace, Name string
	// Node is where it runs.
	Node *Node

	spec    PodSpec
	cluster *Cluster
	number  int    // in the pod networks of the node; 0 in the host network
	port    string // its interface on the node; empty in the host network
	server  *server
	end     func() error
}

// podsAtOnce is how many pods RunPods and DeletePods take on at the same time.
const podsAtOnce = 16

// RunPods runs several pods at the same time and returns them in the order of the specs. On failure those that were
// started are deleted again.
func (c *Cluster) RunPods(ctx context.Context, specs ...PodSpec) ([]*Pod, error) {
	pods := make([]*Pod, len(specs))
	err := eachAtOnce(len(specs), func(i int) (err error) {
		pods[i], err = c.RunPod(ctx, specs[i])
		return err
	})
	if err == nil {
		return pods, nil
	}
	started := slices.DeleteFunc(pods, func(p *Pod) bool { return p == nil })
	return nil, errors.Join(err, DeletePods(context.WithoutCancel(ctx), started...))
}

// DeletePods deletes several pods at the same time.
func DeletePods(ctx context.Context, pods ...*Pod) error {
	return eachAtOnce(len(pods), func(i int) error { return pods[i].Delete(ctx) })
}

// eachAtOnce calls f for 0 to n-1, a bounded number at the same time, and returns all errors.
func eachAtOnce(n int, f func(i int) error) error {
	failures := make([]error, n)
	slots := make(chan struct{}, podsAtOnce)
	var group sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			failures[i] = f(i)
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

// RunPod runs a pod and returns when it serves and the API knows it as Running. EndpointSlices follow a moment later:
// see WaitForEndpoints.
func (c *Cluster) RunPod(ctx context.Context, spec PodSpec) (*Pod, error) {
	if spec.Namespace == "" {
		spec.Namespace = metav1.NamespaceDefault
	}
	node := c.Node(spec.Node)
	if node == nil {
		return nil, fmt.Errorf("running pod %s: there is no node %q", spec.Name, spec.Node)
	}
	pod, err := c.newPod(spec, node)
	if err != nil {
		return nil, fmt.Errorf("running pod %s: %w", spec.Name, err)
	}
	if err := pod.run(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("running pod %s: %w", spec.Name, err), pod.end())
	}
	return pod, nil
}

// newPod makes the network of a pod.
func (c *Cluster) newPod(spec PodSpec, node *Node) (*Pod, error) {
	pod := &Pod{Host: node.Host, Namespace: spec.Namespace, Name: spec.Name, Node: node, spec: spec, cluster: c}
	pod.end = sync.OnceValue(pod.leave)
	if err := c.admit(pod); err != nil {
		return nil, err
	}
	if spec.HostNetwork {
		return pod, nil
	}
	// An underscore is in no name of a node, namespace or pod.
	host, err := c.newHost(spec.Namespace+"_"+spec.Name, nil)
	if err != nil {
		return nil, errors.Join(err, pod.end())
	}
	pod.Host = host
	if err := attachPod(node.Host, pod.port, host, pod.number, node.PodCIDRs); err != nil {
		return nil, errors.Join(err, pod.end())
	}
	return pod, nil
}

// admit notes that a pod is there, and gives it its number on the node.
func (c *Cluster) admit(pod *Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[pod.Node.Name] != pod.Node {
		return fmt.Errorf("node %s is gone", pod.Node.Name)
	}
	if !pod.spec.HostNetwork {
		number, err := pod.Node.freePodNumber()
		if err != nil {
			return err
		}
		pod.Node.pods[number] = struct{}{}
		pod.Node.lastPod = number
		pod.number = number
		c.veths++
		pod.port = fmt.Sprintf("veth%d", c.veths)
	}
	c.pods[pod] = struct{}{}
	return nil
}

// freePodNumber returns the next number after the last that no pod has.
func (n *Node) freePodNumber() (int, error) {
	const first = routerNumber + 1
	for i := range maxPods {
		number := first + (n.lastPod-first+1+i+maxPods)%maxPods
		if _, used := n.pods[number]; !used {
			return number, nil
		}
	}
	return 0, fmt.Errorf("node %s has room for %d pods", n.Name, maxPods)
}

// run opens the pod's ports and tells the API.
func (p *Pod) run(ctx context.Context) (err error) {
	if p.server, err = newServer(ctx, p.Name, p.Host, p.spec.Ports); err != nil {
		return err
	}
	object := p.object()
	if err := p.cluster.client.Create(ctx, object); err != nil {
		return fmt.Errorf("creating it: %w", err)
	}
	if err := p.report(ctx, object, !p.spec.NotReady); err != nil {
		remove := p.cluster.client.Delete(context.WithoutCancel(ctx), object, client.GracePeriodSeconds(0))
		return errors.Join(err, remove)
	}
	return nil
}

// SetReady reports the pod ready, or not.
func (p *Pod) SetReady(ctx context.Context, ready bool) error {
	object := &corev1.Pod{}
	if err := p.cluster.client.Get(ctx, p.key(), object); err != nil {
		return fmt.Errorf("reading pod %s: %w", p.Name, err)
	}
	return p.report(ctx, object, ready)
}

// Terminate asks the API server to end the pod gracefully, as `kubectl delete pod` does. The pod goes on serving, as one
// does that drains, and its endpoints are terminating, until Delete.
func (p *Pod) Terminate(ctx context.Context) error {
	if err := p.cluster.client.Delete(ctx, p.object()); err != nil {
		return fmt.Errorf("terminating pod %s: %w", p.Name, err)
	}
	return nil
}

// Delete removes the pod from the API at once, and then closes its connections and removes its network. Nobody had a
// chance to stop sending to it: Terminate first for that. A pod that is gone already is no error.
func (p *Pod) Delete(ctx context.Context) error {
	err := client.IgnoreNotFound(p.cluster.client.Delete(ctx, p.object(), client.GracePeriodSeconds(0)))
	if err != nil {
		return fmt.Errorf("deleting pod %s: %w", p.Name, err)
	}
	if err := p.end(); err != nil {
		return fmt.Errorf("deleting pod %s: %w", p.Name, err)
	}
	return nil
}

// leave ends the pod: its clients see their connections close, then its interface goes, and then its number is free.
func (p *Pod) leave() error {
	var failures []error
	if p.server != nil {
		p.server.close()
	}
	if p.Host != p.Node.Host {
		failures = append(failures, disconnect(p.Node.Host, p.port), p.Host.close())
	}
	c := p.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pods, p)
	delete(p.Node.pods, p.number)
	return errors.Join(failures...)
}

// abandon closes the pod's sockets and lets go of its namespace, for when its node goes too.
func (p *Pod) abandon() error {
	if p.server != nil {
		p.server.close()
	}
	if p.Host == p.Node.Host {
		return nil
	}
	return p.Host.close()
}

func (c *Cluster) podsOf(node *Node) []*Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pods []*Pod
	for pod := range c.pods {
		if pod.Node == node {
			pods = append(pods, pod)
		}
	}
	return pods
}

func (p *Pod) key() client.ObjectKey {
	return client.ObjectKey{Namespace: p.Namespace, Name: p.Name}
}

// object returns the Pod as somebody would create it, bound to its node.
func (p *Pod) object() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.spec.Labels},
		Spec: corev1.PodSpec{
			NodeName:    p.Node.Name,
			HostNetwork: p.spec.HostNetwork,
			Containers:  []corev1.Container{{Name: "server", Image: "in-process", Ports: p.spec.Ports}},
		},
	}
}

// report writes the status that a kubelet would.
func (p *Pod) report(ctx context.Context, object *corev1.Pod, ready bool) error {
	before := object.DeepCopy()
	status := &object.Status
	now := metav1.Now()
	condition := corev1.ConditionFalse
	if ready {
		condition = corev1.ConditionTrue
	}
	*status = corev1.PodStatus{
		Phase:     corev1.PodRunning,
		StartTime: before.Status.StartTime,
		QOSClass:  before.Status.QOSClass,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: condition, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: condition, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "server", Image: "in-process", Ready: ready, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
	if status.StartTime == nil {
		status.StartTime = &now
	}
	for _, network := range p.cluster.networks {
		ip, nodeIP := p.addressIn(network).String(), p.Node.addressIn(network).String()
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip})
		status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: nodeIP})
	}
	status.PodIP, status.HostIP = status.PodIPs[0].IP, status.HostIPs[0].IP
	if err := p.cluster.client.Status().Patch(ctx, object, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("reporting the status of pod %s: %w", p.Name, err)
	}
	return nil
}
