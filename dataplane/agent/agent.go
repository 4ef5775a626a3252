package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/health"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
	"github.com/serviceproxy/service-proxy-operator/dataplane/probe"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
)

// Options are what an agent is started with.
type Options struct {
	// API is how the API server is reached.
	API *rest.Config
	// NodeName is the name of the Node that the agent runs on.
	NodeName string
	// Standalone is what to run where no operator assigns anything; nil to follow the ServiceProxyNode.
	Standalone *Assignment
	// HealthAddress and MetricsAddress are where to serve /healthz, /livez and /readyz, and /metrics, while the Services of
	// this node are ours to look after. Before and after that they are left to whoever does.
	HealthAddress, MetricsAddress string
	// ProbeAddress is one more place to serve what HealthAddress does, all the time, for a kubelet, which must not be
	// answered by another proxy that has the port of HealthAddress; empty for none.
	ProbeAddress string
	// StateDir is the folder in which is kept what has to outlive the agent; empty for nowhere.
	StateDir string
	// QuerySocket is where to answer questions; empty for nowhere.
	QuerySocket string
	// HostRoot is where the root of the node's file system is: below it is proc/sys.
	HostRoot string
	// Version is reported in status and metrics.
	Version string
	// Clock decides when things are due.
	Clock clock.Clock
}

// Run programs the node until the context ends. What it programmed stays.
func Run(ctx context.Context, o Options) error {
	logger := klog.FromContext(ctx)
	core := apiserver.Protobuf(o.API)
	nodes, err := apiserver.NewClient(o.API, v1alpha1.GroupVersion(), v1alpha1.AddToScheme)
	if err != nil {
		return err
	}

	release, err := virtualserver.Release()
	if err != nil {
		return err
	}
	recorder, stopEvents, err := startEvents(ctx, core, o.NodeName)
	if err != nil {
		return err
	}
	defer stopEvents()
	report := &reporter{
		metrics:  newMetrics(o.Version),
		health:   health.NewStatus(o.Clock.Now),
		recorder: recorder,
		clock:    o.Clock,
		version:  o.Version,
		nodeName: o.NodeName,
		logger:   logger,
		wake:     make(chan struct{}, 1),
		told:     map[string]time.Time{},
	}
	services := catalog.New(o.NodeName, o.Clock.Now)
	report.metrics.registerOthers(report.health, services.Changes)
	assignments := newAssignmentStore()

	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	onDuty := func(ctx context.Context) {
		wg.Go(func() { serve(ctx, "health", o.HealthAddress, healthMux(report.health), o.Clock) })
		wg.Go(func() { serve(ctx, "metrics", o.MetricsAddress, metricsMux(report), o.Clock) })
	}
	if o.ProbeAddress != "" {
		wg.Go(func() { serve(ctx, "probes", o.ProbeAddress, healthMux(report.health), o.Clock) })
	}
	// Watches are not waited for. While the API server is away, a reflector sees only when its next attempt is due that it has
	// to end (watchList in client-go's tools/cache/reflector.go), and it holds nothing that anybody would miss.
	go func() {
		if err := services.Run(ctx, core); err != nil {
			cancel(err)
		}
	}()
	if o.Standalone != nil {
		assignments.set(o.Standalone)
	} else {
		go assignments.follow(ctx, nodes, o.NodeName)
		wg.Go(func() { report.writeStatus(ctx, nodes, o.NodeName) })
	}
	logger.Info("Agent started", "node", o.NodeName, "version", o.Version, "standalone", o.Standalone != nil)
	moved, err := addresses.Watch(ctx)
	if err != nil {
		return fmt.Errorf("watching the addresses of the node: %w", err)
	}
	asked := make(questions)
	if o.QuerySocket != "" {
		wg.Go(func() { serveQueries(ctx, o.QuerySocket, asked, o.NodeName, o.Clock) })
	}
	prober := probe.New(o.Clock)
	pulse := newPulse(prober, o.Clock)
	wg.Go(func() { pulse.run(ctx) })
	last := newRecollection(laststate.Folder(o.StateDir), services, o.Clock)
	wg.Go(func() { last.run(ctx) })
	(&loop{
		catalog: services, assignments: assignments, clock: o.Clock, report: report, hostRoot: o.HostRoot,
		machine: settings.Machine{Cores: runtime.NumCPU(), Release: release},
		moved:   moved, table: forwarding.NewTable(), flows: conntrack.NewCleaner(), checks: newHealthChecks(report.health.Healthy),
		prober: prober, pulse: pulse, guard: newGuard(ctx), memory: memory{folder: laststate.Folder(o.StateDir)},
		recollection: last, onDuty: onDuty, questions: asked,
	}).run(ctx)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	logger.Info("Agent stopped; its rules stay")
	return nil
}
