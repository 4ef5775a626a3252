package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/foreignproxy"
	"github.com/serviceproxy/service-proxy-operator/dataplane/health"
)

// setDuty opens what only the one proxy of a node is to have open, and closes it again. Load balancers ask there, and on a
// node that is not ours they have to hear from the proxy whose it is.
func (l *loop) setDuty(ctx context.Context, on bool) {
	switch {
	case on && l.offDuty == nil:
		ctx, l.offDuty = context.WithCancel(ctx)
		l.onDuty(ctx)
	case !on && l.offDuty != nil:
		l.offDuty()
		l.offDuty = nil
	}
}

func healthMux(status *health.Status) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", status.Healthz)
	mux.HandleFunc("/livez", status.Livez)
	mux.HandleFunc("/readyz", status.Readyz)
	return mux
}

func metricsMux(r *reporter) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", r.health.Healthz)
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) {
		if s := r.latest(); s != nil {
			_, _ = fmt.Fprint(w, s.status.Mode) // the client is gone
		}
	})
	return mux
}

// listenRetry is how long to wait for an address that another process has, such as a proxy that is being replaced.
const listenRetry = 5 * time.Second

// serve answers until the context ends. An address that cannot be had is tried again and again: a node without a health
// port still needs its Services.
func serve(ctx context.Context, what, address string, handler http.Handler, clk clock.Clock) {
	logger := klog.FromContext(ctx)
	for {
		err := serveOnce(ctx, address, handler)
		if ctx.Err() != nil {
			return
		}
		logger.Error(err, "Serving failed", "what", what, "address", address, "retryIn", listenRetry)
		select {
		case <-ctx.Done():
			return
		case <-clk.After(listenRetry):
		}
	}
}

func serveOnce(ctx context.Context, address string, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", foreignproxy.AgentServer)
		handler.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: named, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	return fmt.Errorf("accepting connections: %w", server.Serve(listener))
}
