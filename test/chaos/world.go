package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// Options say where a run takes place.
type Options struct {
	Cluster *cluster.Cluster
	Setup   *install.Installation
	// Mode is the one that nodes are in at first.
	Mode v1alpha1.Mode
	// Backend is the backend of iptables of a node.
	Backend func(node string) string
	// Joined says that the control plane is another machine's, and cannot be stopped.
	Joined bool
	// SwitchesModes says that the kernel has IPVS, and that nodes go from mode to mode.
	SwitchesModes bool
	// Log gets the steps.
	Log io.Writer
}

// World is a cluster, what it is to be like by now, and the traffic through it.
type World struct {
	Options

	rand     *rand.Rand
	nodes    []string
	pods     map[string]*cluster.Pod
	clients  map[string]*cluster.Pod // by the names of nodes
	services map[int]*service
	gone     map[int]bool // Services that there were
	// hostile are Services that claim the addresses of others.
	hostile map[string]bool
	mode    v1alpha1.Mode
	// foreign are the rules, sets and routes of others, as they were planted.
	foreign map[string]string
	// extra are addresses that nodes have been given.
	extra map[string]bool

	held traffic.Connections
	// asked is how many questions were asked.
	asked      int
	streams    map[string]*traffic.Stream
	apiAddress string
	// cut are the nodes that do not reach the API server now, and apiStopped says that nobody does.
	cut        map[string]bool
	apiStopped bool

	steps []string
}

// The Services that never change, and what they are reached at.
const (
	steadyIP       = "10.96.0.200"
	steadyNodePort = 30090
	config         = "chaos"
)

const manifests = `
apiVersion: v1
kind: Service
metadata: {name: steady}
spec:
  type: NodePort
  clusterIP: 10.96.0.200
  selector: {app: steady}
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30090}
  - {name: dns, port: 53, targetPort: 5353, nodePort: 30091, protocol: UDP}
---
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: chaos}
spec:
  nodeSelector: {}
  mode: MODE
  sync: {fullIntervalSeconds: 10, holdBack: {lossPercent: 100, seconds: 0}}
  rollout: {maxUnavailable: 100%, minReadySeconds: 0, nodeChangeDelaySeconds: 0}
`

// podsPerNode is how many pods of each sort run on a node.
const podsPerNode = 2

// New fills a cluster on which everything is installed, and starts traffic. Stop ends the traffic.
func New(ctx context.Context, seed uint64, options Options) (*World, error) {
	w := &World{
		Options: options, rand: rand.New(rand.NewPCG(seed, 0)), mode: options.Mode,
		pods: map[string]*cluster.Pod{}, clients: map[string]*cluster.Pod{}, services: map[int]*service{}, gone: map[int]bool{},
		hostile: map[string]bool{}, foreign: map[string]string{}, extra: map[string]bool{}, cut: map[string]bool{}, streams: map[string]*traffic.Stream{},
	}
	var specs []cluster.PodSpec
	for _, node := range options.Cluster.Nodes() {
		w.nodes = append(w.nodes, node.Name)
		specs = append(specs, cluster.PodSpec{Name: "client-" + node.Name, Node: node.Name})
		for i := range podsPerNode {
			specs = append(specs, podSpec(fmt.Sprintf("steady-%s-%d", node.Name, i), node.Name),
				podSpec(fmt.Sprintf("mortal-%s-%d", node.Name, i), node.Name))
		}
	}
	pods, err := options.Cluster.RunPods(ctx, specs...)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if strings.HasPrefix(pod.Name, "client-") {
			w.clients[pod.Node.Name] = pod
		} else {
			w.pods[pod.Name] = pod
		}
	}
	if _, err := options.Cluster.KubectlApply(ctx, strings.Replace(manifests, "MODE", string(options.Mode), 1)); err != nil {
		return nil, err
	}
	if err := options.Cluster.WaitForEndpoints(ctx, metav1.NamespaceDefault, "steady", podsPerNode*len(w.nodes)); err != nil {
		return nil, err
	}
	if w.apiAddress, err = w.addressOfAPI(ctx); err != nil {
		return nil, err
	}
	for _, node := range w.nodes {
		if err := w.plant(ctx, node); err != nil {
			return nil, err
		}
	}
	if err := w.settle(ctx); err != nil {
		return nil, fmt.Errorf("before the first step: %w", err)
	}
	return w, w.gather(ctx)
}

func podSpec(name, node string) cluster.PodSpec {
	kind, _, _ := strings.Cut(name, "-")
	return cluster.PodSpec{
		Name: name, Node: node, Labels: map[string]string{"app": kind},
		Ports: []corev1.ContainerPort{{ContainerPort: httpTarget}, {ContainerPort: dnsTarget, Protocol: corev1.ProtocolUDP}},
	}
}

// addressOfAPI is where agents reach the API server.
func (w *World) addressOfAPI(ctx context.Context) (string, error) {
	out, err := w.Cluster.Kubectl(ctx, "get", "endpointslice", "kubernetes", "-o", "jsonpath={.endpoints[0].addresses[0]}")
	return out, err
}

// The pace of traffic. A machine that does many things at a time may be slow; a connection that is refused or broken fails
// at once all the same.
const (
	heldEach  = 4
	beat      = 500 * time.Millisecond
	patience  = 20 * time.Second
	rowTime   = 200 * time.Millisecond
	rowLength = 2
)

// gather opens connections to hold, and new ones all the time, to the Service that does not change.
func (w *World) gather(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // until Stop
	for i, node := range w.nodes {
		other := w.Cluster.Node(w.nodes[(i+1)%len(w.nodes)])
		for name, from := range map[string]struct {
			host             *cluster.Host
			network, address string
		}{
			"pod of " + node + " to the cluster IP":            {w.clients[node].Host, "tcp", at(steadyIP, httpPort)},
			"node " + node + " to the cluster IP":              {w.Cluster.Node(node).Host, "tcp", at(steadyIP, httpPort)},
			"outside to the node port of " + node:              {w.Cluster.Outside(), "tcp", at(other.IPv4.String(), steadyNodePort)},
			"pod of " + node + " to the cluster IP, datagrams": {w.clients[node].Host, "udp", at(steadyIP, dnsPort)},
		} {
			if from.network == "tcp" {
				held, err := traffic.HoldSlowly(ctx, from.host, from.address, heldEach, beat, patience)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				w.held = append(w.held, held...)
			}
			w.streams[name] = traffic.OpenAt(ctx, from.host, from.network, from.address,
				traffic.Pace{Every: rowTime, Row: rowLength, Patience: patience})
		}
	}
	return nil
}

// Stop ends the traffic.
func (w *World) Stop() {
	w.held.Close()
	for _, s := range w.streams {
		s.Stop()
	}
}

// undisturbed returns an error if anything has happened to traffic since the last time, and how many connections there were.
func (w *World) undisturbed() (opened int, err error) {
	errs := []error{w.held.Broken()}
	for name, s := range w.streams {
		tally := s.Take()
		opened += tally.Opened
		if tally.Failed > 0 {
			errs = append(errs, fmt.Errorf("%s: %s", name, tally))
		}
	}
	return opened, errors.Join(errs...)
}

// excuse forgets what has happened to new connections up to now.
func (w *World) excuse() {
	for _, s := range w.streams {
		s.Take()
	}
}

func at(ip string, port int) string { return net.JoinHostPort(ip, fmt.Sprint(port)) }

// anyNode is a node that is drawn.
func (w *World) anyNode() string { return w.nodes[w.rand.IntN(len(w.nodes))] }

// podNames are the pods that Services may lead to, in order.
func (w *World) podNames() []string {
	var names []string
	for name := range w.pods {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (w *World) where(pod string) (address, node string) {
	p := w.pods[pod]
	return p.IPv4.String(), p.Node.Name
}

// patch changes the config, as kubectl patch --type=merge does.
func (w *World) patch(ctx context.Context, text string) error {
	object := &v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: config}}
	return w.Cluster.Client().Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(text)))
}
