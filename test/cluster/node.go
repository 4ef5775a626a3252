package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Node is a node of the cluster: a host that pods are attached to and that routes between them and the world.
type Node struct {
	*Host
	// PodCIDRs are the networks of its pods, one for each IP family of the cluster.
	PodCIDRs []netip.Prefix
	// Zone is the zone its Node is labelled with at first.
	Zone string

	number  int
	pods    map[int]struct{} // numbers in use; guarded by the mutex of the cluster
	lastPod int              // number given last, so that addresses are reused as late as possible
}

// zones is how many zones nodes are spread over.
const zones = 3

// Node returns the node of that name, nil if there is none.
func (c *Cluster) Node(name string) *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[name]
}

// Nodes returns all nodes, oldest first.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := make([]*Node, 0, len(c.nodes))
	for _, node := range c.nodes {
		nodes = append(nodes, node)
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return a.number - b.number })
	return nodes
}

// AddNode adds a node to the network and its Node, ready, to the API.
func (c *Cluster) AddNode(ctx context.Context, name string) (*Node, error) {
	node, err := c.newNode(name)
	if err != nil {
		return nil, err
	}
	if err := c.client.Create(ctx, node.object()); err != nil {
		return nil, errors.Join(fmt.Errorf("creating node %s: %w", name, err), c.dropNode(node))
	}
	return node, nil
}

// RemoveNode deletes a node's pods and its Node from the API, ends its processes, and takes it off the network.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	node := c.Node(name)
	if node == nil {
		return fmt.Errorf("removing node %s: there is no such node", name)
	}
	if err := DeletePods(ctx, c.podsOf(node)...); err != nil {
		return fmt.Errorf("removing node %s: %w", name, err)
	}
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := client.IgnoreNotFound(c.client.Delete(ctx, object)); err != nil {
		return fmt.Errorf("removing node %s: %w", name, err)
	}
	return c.dropNode(node)
}

// newNode makes the network of a node.
func (c *Cluster) newNode(name string) (*Node, error) {
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return nil, fmt.Errorf("adding node %q: %s", name, strings.Join(problems, "; "))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[name] != nil || slices.Contains([]string{"fabric", "outside", "control-plane"}, name) {
		return nil, fmt.Errorf("adding node %s: the name is taken", name)
	}
	number, err := c.freeNodeNumber()
	if err != nil {
		return nil, fmt.Errorf("adding node %s: %w", name, err)
	}
	host, err := c.newHost(name, forwarding())
	if err != nil {
		return nil, err
	}
	node := &Node{Host: host, Zone: fmt.Sprintf("zone-%d", (number-1)%zones+1), number: number, pods: map[int]struct{}{}, lastPod: routerNumber}
	for _, network := range c.networks {
		node.PodCIDRs = append(node.PodCIDRs, network.pods(number))
	}
	if err := c.attachNode(node); err != nil {
		return nil, errors.Join(fmt.Errorf("adding node %s: %w", name, err), host.close())
	}
	c.nodes[name] = node
	return node, nil
}

func (c *Cluster) freeNodeNumber() (int, error) {
	used := map[int]bool{}
	for _, node := range c.nodes {
		used[node.number] = true
	}
	for number := 1; number <= maxNodes; number++ {
		if !used[number] {
			return number, nil
		}
	}
	return 0, fmt.Errorf("there is room for %d nodes", maxNodes)
}

// attachNode puts a node on the LAN and lets everyone there know its pod networks.
func (c *Cluster) attachNode(node *Node) error {
	if err := attachToLAN(c.fabric, node.Host, node.port(), nodeNumber+node.number, c.networks); err != nil {
		return err
	}
	if err := newPodNetwork(node.Host, node.PodCIDRs); err != nil {
		return err
	}
	for _, other := range c.nodes {
		if err := node.addRoutes(other.Host); err != nil {
			return err
		}
		if err := other.addRoutes(node.Host); err != nil {
			return err
		}
	}
	return node.addRoutes(c.fabric)
}

// dropNode takes a node off the network.
func (c *Cluster) dropNode(node *Node) error {
	// First, while the other ends of their connections can still learn of it: an API server that is to end waits for them.
	node.kill()
	c.mu.Lock()
	delete(c.nodes, node.Name)
	failures := []error{node.deleteRoutes(c.fabric)}
	for _, other := range c.nodes {
		failures = append(failures, node.deleteRoutes(other.Host))
	}
	failures = append(failures, disconnect(c.fabric, node.port()))
	c.mu.Unlock()
	return errors.Join(append(failures, node.close())...)
}

// port is the name of the node's interface on the router, short enough whatever the name of the node.
func (n *Node) port() string { return fmt.Sprintf("node%d", n.number) }

// lanAddress returns the address of a node in the family of a prefix.
func (n *Node) lanAddress(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return n.IPv4
	}
	return n.IPv6
}

// addRoutes gives a host routes to the pods of the node.
func (n *Node) addRoutes(h *Host) error {
	return h.Configure(func(links *netlink.Handle) error {
		for _, network := range n.PodCIDRs {
			if err := addRoute(links, network, n.lanAddress(network)); err != nil {
				return err
			}
		}
		return nil
	})
}

// deleteRoutes takes a host's routes to the pods of the node away.
func (n *Node) deleteRoutes(h *Host) error {
	return h.Configure(func(links *netlink.Handle) error {
		for _, network := range n.PodCIDRs {
			if err := deleteRoute(links, network); err != nil {
				return err
			}
		}
		return nil
	})
}

// RouteVia sends what the outside client has for a prefix, such as a Service's address or all of them, to a node. Nobody
// else gets a route: a node or a pod reaches such addresses only through the proxy of its node.
func (c *Cluster) RouteVia(node *Node, prefix netip.Prefix) error {
	route := outsideRoute(prefix)
	route.Gw = node.lanAddress(prefix).AsSlice()
	err := c.fabric.Configure(func(links *netlink.Handle) error { return links.RouteReplace(route) })
	if err != nil {
		return fmt.Errorf("routing %s from outside via node %s: %w", prefix, node.Name, err)
	}
	return nil
}

// Unroute takes back a RouteVia.
func (c *Cluster) Unroute(prefix netip.Prefix) error {
	err := c.fabric.Configure(func(links *netlink.Handle) error { return links.RouteDel(outsideRoute(prefix)) })
	if err != nil {
		return fmt.Errorf("removing the route to %s from outside: %w", prefix, err)
	}
	return nil
}

func outsideRoute(prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipNet(prefix.Masked()), Table: outsideTable}
}

// object returns the Node as a kubelet would register it, ready.
func (n *Node) object() *corev1.Node {
	now := metav1.Now()
	object := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.Name,
			Labels: map[string]string{
				corev1.LabelHostname:     n.Name,
				corev1.LabelTopologyZone: n.Zone,
				corev1.LabelOSStable:     runtime.GOOS,
				corev1.LabelArchStable:   runtime.GOARCH,
			},
		},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.Name}},
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "ClusterRuns",
				LastHeartbeatTime: now, LastTransitionTime: now,
			}},
			Capacity: corev1.ResourceList{
				corev1.ResourcePods: *resource.NewQuantity(maxPods, resource.DecimalSI),
			},
		},
	}
	object.Status.Allocatable = object.Status.Capacity
	for _, network := range n.PodCIDRs {
		object.Spec.PodCIDRs = append(object.Spec.PodCIDRs, network.String())
		object.Status.Addresses = append(object.Status.Addresses,
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: n.lanAddress(network).String()})
	}
	object.Spec.PodCIDR = object.Spec.PodCIDRs[0]
	return object
}
