package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options say what a cluster is made of. The zero value is a dual-stack cluster without nodes.
type Options struct {
	// Nodes are the names of the nodes it starts with.
	Nodes []string
	// IPFamilies are those of nodes, pods and Services, the primary one first; IPv4 and IPv6 by default.
	IPFamilies []corev1.IPFamily
	// Controllers of kube-controller-manager to run besides those that a cluster without kubelets needs, by their
	// names there, such as "deployment-controller".
	Controllers []string
	// LogDir is an existing folder for the output of all processes, where it stays. By default it goes with the
	// cluster, and what mattered of it is in the error.
	LogDir string
}

// Cluster is a control plane, nodes and pods. Its methods can be called from several goroutines.
type Cluster struct {
	networks     []addresses
	dir          *workdir
	logs         string
	launcher     *launcher
	fabric       *Host
	outside      *Host
	controlPlane *controlPlane
	client       client.Client
	stop         func() error

	mu    sync.Mutex
	nodes map[string]*Node
	pods  map[*Pod]struct{}
	veths int // interfaces made for pods so far
}

// Start starts a cluster and returns when its API server, controllers and nodes are ready. ctx is for the start alone: a
// cluster that has started runs until Stop. One that could not start leaves nothing behind.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	c := newCluster()
	if err := c.start(ctx, options); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the cluster: %w", err), c.Stop())
	}
	return c, nil
}

func newCluster() *Cluster {
	c := &Cluster{nodes: map[string]*Node{}, pods: map[*Pod]struct{}{}}
	c.stop = sync.OnceValue(c.tearDown)
	return c
}

// Run starts a cluster, or joins the one that this process is Invited to, calls f with it, and stops it when f returns or
// panics. SIGINT and SIGTERM cancel the context that f gets; f is to return then. A second signal ends the process at
// once, which leaves no process and no namespace either.
func Run(ctx context.Context, options Options, f func(context.Context, *Cluster) error) (err error) {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer restore()
	context.AfterFunc(ctx, restore)
	start := Start
	if Invited() {
		start = Join
	}
	c, err := start(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	return f(ctx, c)
}

// Stop ends all processes and lets go of everything the cluster consists of. It returns when no process and no file is
// left; the kernel takes network namespaces down by itself soon after. Later calls do nothing and return the same.
func (c *Cluster) Stop() error { return c.stop() }

func (c *Cluster) start(ctx context.Context, options Options) error {
	programs, err := c.prepare(options)
	if err != nil {
		return err
	}
	if err := c.launchControlPlane(programs); err != nil {
		return err
	}
	// Nodes get their networks while the API server starts.
	nodes, err := c.newNodes(options.Nodes)
	if err != nil {
		return err
	}
	if err := c.controlPlane.waitForAPIServer(ctx); err != nil {
		return err
	}
	if err := c.controlPlane.startControllerManager(options.Controllers); err != nil {
		return err
	}
	if err := c.register(ctx, nodes); err != nil {
		return err
	}
	return c.waitForControllers(ctx)
}

// prepare makes all that is there before control plane and nodes, and finds the programs.
func (c *Cluster) prepare(options Options) (programs, error) {
	programs, err := findPrograms()
	if err != nil {
		return nil, err
	}
	if err := c.plan(options); err != nil {
		return nil, err
	}
	if c.dir, err = newWorkdir(workdirBase()); err != nil {
		return nil, err
	}
	if c.logs = options.LogDir; c.logs == "" {
		c.logs = c.dir.path("logs")
	}
	c.launcher = newLauncher()
	return programs, c.startNetwork()
}

// newNodes makes the networks of several nodes.
func (c *Cluster) newNodes(names []string) ([]*Node, error) {
	nodes := make([]*Node, len(names))
	for i, name := range names {
		var err error
		if nodes[i], err = c.newNode(name); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// register makes the client of the cluster, and creates the Nodes of the first nodes.
func (c *Cluster) register(ctx context.Context, nodes []*Node) (err error) {
	if c.client, err = newClient(c.RESTConfig()); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := c.client.Create(ctx, node.object()); err != nil {
			return fmt.Errorf("creating node %s: %w", node.Name, err)
		}
	}
	return nil
}

// plan checks the options and lays out the networks.
func (c *Cluster) plan(options Options) error {
	families := options.IPFamilies
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	for i, family := range families {
		if slices.Contains(families[:i], family) {
			return fmt.Errorf("IP family %s is given twice", family)
		}
		network, err := addressesOf(family)
		if err != nil {
			return err
		}
		c.networks = append(c.networks, network)
	}
	return nil
}

func (c *Cluster) newHost(name string, sysctls map[string]string) (*Host, error) {
	return newHost(name, sysctls, c.launcher, c.dir.path("hosts"), c.logs)
}

// startNetwork makes all that is there before the first node.
func (c *Cluster) startNetwork() (err error) {
	if c.fabric, err = c.newHost("fabric", forwarding()); err != nil {
		return err
	}
	if err := newFabric(c.fabric, c.networks); err != nil {
		return err
	}
	if c.outside, err = c.newHost("outside", nil); err != nil {
		return err
	}
	return attachOutside(c.fabric, c.outside, c.networks)
}

func (c *Cluster) launchControlPlane(programs programs) error {
	if err := c.attachControlPlane(programs); err != nil {
		return err
	}
	if err := c.controlPlane.prepare(time.Now()); err != nil {
		return err
	}
	if err := c.controlPlane.startEtcd(); err != nil {
		return err
	}
	return c.controlPlane.launchAPIServer()
}

// attachControlPlane makes the host of the control plane.
func (c *Cluster) attachControlPlane(programs programs) error {
	host, err := c.newHost("control-plane", nil)
	if err != nil {
		return err
	}
	c.controlPlane = &controlPlane{host: host, networks: c.networks, programs: programs, dir: c.dir}
	return attachToLAN(c.fabric, host, host.Name, controlPlaneNumber, c.networks)
}

// tearDown undoes a start, however far it came. What processes need goes after them.
func (c *Cluster) tearDown() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var closers []func() error
	for pod := range c.pods {
		closers = append(closers, pod.abandon)
	}
	failures := []error{together(closers)}
	closers = nil
	for _, node := range c.nodes {
		closers = append(closers, node.close)
	}
	for _, host := range []*Host{c.outside, c.fabric} {
		if host != nil {
			closers = append(closers, host.close)
		}
	}
	failures = append(failures, together(closers))
	if c.controlPlane != nil {
		failures = append(failures, c.controlPlane.close())
	}
	if c.launcher != nil {
		c.launcher.close()
	}
	if c.dir != nil {
		failures = append(failures, c.dir.remove())
	}
	clear(c.pods)
	clear(c.nodes)
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("stopping the cluster: %w", err)
	}
	return nil
}

// together calls functions at the same time and returns their errors.
func together(functions []func() error) error {
	failures := make([]error, len(functions))
	var group sync.WaitGroup
	for i, f := range functions {
		group.Go(func() { failures[i] = f() })
	}
	group.Wait()
	return errors.Join(failures...)
}

// RESTConfig returns the access of a cluster administrator from this machine, without client-side rate limits.
func (c *Cluster) RESTConfig() *rest.Config { return c.controlPlane.restConfig() }

// Client returns a client of a cluster administrator for the built-in kinds, CustomResourceDefinitions, and the kinds of
// this project.
func (c *Cluster) Client() client.Client { return c.client }

// Outside returns the client behind the router. It reaches nodes and pods by their addresses; to Service addresses it
// has a way only after RouteVia.
func (c *Cluster) Outside() *Host { return c.outside }

// ControlPlane returns the host of the control plane.
func (c *Cluster) ControlPlane() *Host { return c.controlPlane.host }

// Fabric returns the router, which sees every packet from outside, and whose bridge sees every packet between nodes.
func (c *Cluster) Fabric() *Host { return c.fabric }

// LogDir returns the folder that holds the output of all processes.
func (c *Cluster) LogDir() string { return c.logs }

// CopyLogs copies the output of all processes to a folder, for instance when a test failed.
func (c *Cluster) CopyLogs(folder string) error {
	if err := os.CopyFS(folder, os.DirFS(c.logs)); err != nil {
		return fmt.Errorf("copying the logs of the cluster: %w", err)
	}
	return nil
}

// StopAPIServer ends the API server with SIGTERM and returns when it is gone. Data and controllers stay.
func (c *Cluster) StopAPIServer(ctx context.Context) error { return c.controlPlane.stopAPIServer(ctx) }

// StartAPIServer starts the API server again at the same address, with the same data, and returns when it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.controlPlane.launchAPIServer(); err != nil {
		return err
	}
	return c.controlPlane.waitForAPIServer(ctx)
}
