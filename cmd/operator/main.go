// Command operator assigns the settings of ServiceProxyConfigs to nodes and reports what the nodes make of them.
package main

import (
	"cmp"
	"context"
	"errors"
	goflag "flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/serviceproxy/service-proxy-operator/controllers/config"
	"github.com/serviceproxy/service-proxy-operator/controllers/install"
	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
)

// name is the operator in leases, events and the user agent of its requests.
const name = "service-proxy-operator"

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1)
	}
}

// run runs the operator until the context ends, which is not an error.
func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Println(version)
		return nil
	}
	logger := textlogger.NewLogger(o.log)
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)

	servers, err := apiServers(ctx, o)
	if err != nil {
		return err
	}
	mgr, err := newManager(o, servers.Config())
	if err != nil {
		return err
	}
	// A standby has to find the API servers as well.
	if err := mgr.Add(everywhere(servers.Follow)); err != nil {
		return fmt.Errorf("adding the watch of the API servers: %w", err)
	}
	if err := addControllers(mgr, o); err != nil {
		return err
	}
	logger.Info("Starting", "version", version, "leaderElection", o.leaderElect, "agent", o.agent)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	logger.Info("Stopped")
	return nil
}

// everywhere runs on every operator, whether it has the lease or not.
type everywhere func(context.Context) error

func (f everywhere) Start(ctx context.Context) error { return f(ctx) }

func (f everywhere) NeedLeaderElection() bool { return false }

func addControllers(mgr manager.Manager, o options) error {
	api, err := client.New(mgr.GetConfig(), client.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
	})
	if err != nil {
		return fmt.Errorf("making a client without a cache: %w", err)
	}
	guard := install.NewGuard(clock.RealClock{})
	installer := &install.Reconciler{
		API:        api,
		Namespace:  o.namespace,
		APIServers: o.apiServers,
		Guard:      guard,
	}
	if o.agent == agentDaemonSet {
		installer.Agent = &install.Agent{Image: o.agentImage, MaxUnavailable: o.agentMaxUnavailable}
	}
	if err := installer.SetupWithManager(mgr); err != nil {
		return err
	}
	reconciler := &config.Reconciler{
		Client:    mgr.GetClient(),
		Recorder:  mgr.GetEventRecorder(name),
		Clock:     clock.RealClock{},
		Namespace: o.namespace,
		Guard:     guard,
		Metrics:   config.NewMetrics(version),
	}
	if err := metrics.Registry.Register(reconciler.Metrics); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return reconciler.SetupWithManager(mgr)
}

func newManager(o options, server *rest.Config) (manager.Manager, error) {
	managerOptions, err := config.ManagerOptions(o.namespace)
	if err != nil {
		return nil, err
	}
	maps.Copy(managerOptions.Cache.ByObject, install.ByObject(o.namespace))
	managerOptions.Metrics.BindAddress = o.metricsAddress
	managerOptions.HealthProbeBindAddress = o.healthAddress
	managerOptions.LeaderElection = o.leaderElect
	managerOptions.LeaderElectionID = name
	managerOptions.LeaderElectionNamespace = o.leaderElectNamespace
	// Nothing is written after the manager has stopped, so the next leader need not wait for the lease to run out.
	managerOptions.LeaderElectionReleaseOnCancel = true

	mgr, err := ctrl.NewManager(server, managerOptions)
	if err != nil {
		return nil, fmt.Errorf("setting up: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the liveness check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", config.CachesSynced(mgr.GetCache())); err != nil {
		return nil, fmt.Errorf("adding the readiness check: %w", err)
	}
	return mgr, nil
}

// apiServers returns how to reach the API servers: as the file says, or, without one, as a Pod does.
func apiServers(ctx context.Context, o options) (*apiserver.Servers, error) {
	var (
		server *rest.Config
		err    error
	)
	if o.kubeconfig == "" {
		if server, err = rest.InClusterConfig(); err != nil {
			return nil, fmt.Errorf("finding the API server without --kubeconfig: %w", err)
		}
	} else if server, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig); err != nil {
		return nil, fmt.Errorf("reading --kubeconfig %s: %w", o.kubeconfig, err)
	}
	server.QPS = -1 // the reconciler paces itself
	server.UserAgent = name + "/" + version
	return apiserver.New(ctx, server, apiserver.Options{Given: o.apiServers, OfService: o.kubeconfig == ""})
}

// options are the flags.
type options struct {
	kubeconfig           string
	apiServers           []string
	namespace            string
	agent                string
	agentImage           string
	agentMaxUnavailable  intstr.IntOrString
	leaderElect          bool
	leaderElectNamespace string
	metricsAddress       string
	healthAddress        string
	version              bool
	log                  *textlogger.Config
}

// Who runs the agents.
const (
	agentDaemonSet = "daemonset" // the operator, with a DaemonSet
	agentExternal  = "external"  // others
)

// agentRepository is where the agents of a release are.
const agentRepository = "ghcr.io/serviceproxy/service-proxy-agent"

// defaultNamespace is where config/default installs.
const defaultNamespace = "service-proxy-system"

func parse(args []string) (options, error) {
	o := options{log: textlogger.NewConfig()}
	flags := pflag.NewFlagSet("operator", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.StringVar(&o.kubeconfig, "kubeconfig", "",
		"file that says how to reach the API server; in a Pod its service account says so")
	flags.StringSliceVar(&o.apiServers, "api-server", nil,
		"addresses (host:port, comma-separated) of API servers or of a load balancer before them, for this operator and for\n"+
			"the agents, tried before those that are found in the EndpointSlice of Service default/kubernetes")
	flags.StringVar(&o.namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), defaultNamespace),
		"namespace of the agents and of the history of settings; $POD_NAMESPACE by default")
	flags.StringVar(&o.agent, "agent", agentDaemonSet,
		"who runs the agents: daemonset (the operator makes a DaemonSet) or external (somebody else)")
	flags.StringVar(&o.agentImage, "agent-image", cmp.Or(os.Getenv("RELATED_IMAGE_AGENT"), agentRepository+":"+version),
		"image of the agents; $RELATED_IMAGE_AGENT by default")
	maxUnavailable := flags.String("agent-max-unavailable", "10%",
		"how many agents, or what part of them, are replaced at a time when their DaemonSet changes")
	flags.BoolVar(&o.leaderElect, "leader-elect", true,
		"work only while holding a lease, so that several operators can stand by; off by default with --kubeconfig")
	flags.StringVar(&o.leaderElectNamespace, "leader-elect-namespace", "",
		"namespace of the lease; in a Pod its own by default")
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080",
		"address that serves /metrics; 0 serves none")
	flags.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081",
		"address that serves /healthz and /readyz; 0 serves none")
	flags.BoolVar(&o.version, "version", false, "print the version and exit")
	logFlags := goflag.NewFlagSet("log", goflag.ContinueOnError)
	o.log.AddFlags(logFlags)
	flags.AddGoFlagSet(logFlags)

	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unknown argument %q: everything is set by flags, see --help", flags.Arg(0))
	}
	if o.agent != agentDaemonSet && o.agent != agentExternal {
		return options{}, fmt.Errorf("--agent=%s is not supported: it is %s, or %s, "+
			"which leaves it to you to run an agent on every node", o.agent, agentDaemonSet, agentExternal)
	}
	var err error
	if o.agentMaxUnavailable, err = parseMaxUnavailable(*maxUnavailable); err != nil {
		return options{}, err
	}
	if o.kubeconfig != "" && !flags.Changed("leader-elect") {
		o.leaderElect = false
	}
	return o, nil
}

// parseMaxUnavailable reads a number above 0, or a percentage above 0: with none, agents would never be replaced, since
// two of them cannot share a node.
func parseMaxUnavailable(text string) (intstr.IntOrString, error) {
	value := intstr.Parse(text)
	if n, err := intstr.GetScaledValueFromIntOrPercent(&value, 100, true); err != nil || n < 1 || value.Type == intstr.String && n > 100 {
		return value, fmt.Errorf("--agent-max-unavailable=%s: a number from 1 or a percentage from 1%% to 100%% is needed", text)
	}
	return value, nil
}
