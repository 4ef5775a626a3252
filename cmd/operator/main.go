// Command operator assigns the settings of ServiceProxyConfigs to nodes and reports what the nodes make of them.
package main

import (
	"context"
	"errors"
	goflag "flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/serviceproxy/service-proxy-operator/controllers/config"
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

	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	reconciler := &config.Reconciler{
		Client:   mgr.GetClient(),
		Recorder: mgr.GetEventRecorder(name),
		Clock:    clock.RealClock{},
	}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		return err
	}
	logger.Info("Starting", "version", version, "leaderElection", o.leaderElect, "agent", o.agent)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	logger.Info("Stopped")
	return nil
}

func newManager(o options) (manager.Manager, error) {
	kubeconfig, err := restConfig(o.kubeconfig)
	if err != nil {
		return nil, err
	}
	managerOptions, err := config.ManagerOptions()
	if err != nil {
		return nil, err
	}
	managerOptions.Metrics.BindAddress = o.metricsAddress
	managerOptions.HealthProbeBindAddress = o.healthAddress
	managerOptions.LeaderElection = o.leaderElect
	managerOptions.LeaderElectionID = name
	managerOptions.LeaderElectionNamespace = o.leaderElectNamespace
	// Nothing is written after the manager has stopped, so the next leader need not wait for the lease to run out.
	managerOptions.LeaderElectionReleaseOnCancel = true

	mgr, err := ctrl.NewManager(kubeconfig, managerOptions)
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

// restConfig returns how to reach the API server: as the file says, or, without one, as a Pod does.
func restConfig(file string) (*rest.Config, error) {
	var (
		server *rest.Config
		err    error
	)
	if file == "" {
		if server, err = rest.InClusterConfig(); err != nil {
			return nil, fmt.Errorf("finding the API server without --kubeconfig: %w", err)
		}
	} else if server, err = clientcmd.BuildConfigFromFlags("", file); err != nil {
		return nil, fmt.Errorf("reading --kubeconfig %s: %w", file, err)
	}
	server.QPS = -1 // the reconciler paces itself
	server.UserAgent = name + "/" + version
	return server, nil
}

// options are the flags.
type options struct {
	kubeconfig           string
	agent                string
	leaderElect          bool
	leaderElectNamespace string
	metricsAddress       string
	healthAddress        string
	version              bool
	log                  *textlogger.Config
}

// agentExternal leaves it to others to run an agent on every node.
const agentExternal = "external"

func parse(args []string) (options, error) {
	o := options{log: textlogger.NewConfig()}
	flags := pflag.NewFlagSet("operator", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.StringVar(&o.kubeconfig, "kubeconfig", "",
		"file that says how to reach the API server; in a Pod its service account says so")
	flags.StringVar(&o.agent, "agent", agentExternal,
		"who runs the agents: external (somebody else)")
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
	if o.agent != agentExternal {
		return options{}, fmt.Errorf("--agent=%s is not supported: the only value is %s, "+
			"which leaves it to you to run an agent on every node", o.agent, agentExternal)
	}
	if o.kubeconfig != "" && !flags.Changed("leader-elect") {
		o.leaderElect = false
	}
	return o, nil
}
