package outage

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"

	"k8s.io/client-go/rest"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// door is a way to the API server that an agent takes. It can be shut, and it can answer as an API server does that has lost
// its data: whoever lists Services or EndpointSlices finds none. Watches end whenever that changes.
type door struct {
	host    *cluster.Host
	address string
	proxy   *httputil.ReverseProxy

	mu     sync.Mutex
	server *httptest.Server
	empty  bool
	// epoch ends when anything changes.
	epoch context.Context //nolint:containedctx // of the requests that are under way
	end   context.CancelFunc
}

// newDoor opens a door on a host, at an address of it. Clients show their own credentials to the API server.
func newDoor(ctx context.Context, host *cluster.Host, address string, api *rest.Config) (*door, error) {
	target, err := url.Parse(api.Host)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the API server: %w", err)
	}
	transport, err := rest.TransportFor(&rest.Config{Host: api.Host, TLSClientConfig: rest.TLSClientConfig{CAData: api.CAData}})
	if err != nil {
		return nil, fmt.Errorf("setting up connections to the API server: %w", err)
	}
	d := &door{host: host, address: address, proxy: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // events are to arrive at once
		ErrorLog:      log.New(io.Discard, "", 0),
		// Nobody answers for an API server that is not there.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	return d, d.open(ctx)
}

// open lets requests in.
func (d *door) open(ctx context.Context) error {
	listener, err := d.host.Listen(ctx, "tcp", d.address)
	if err != nil {
		return fmt.Errorf("opening a door to the API server: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch, d.end = context.WithCancel(context.Background())
	d.server = httptest.NewUnstartedServer(d)
	err = d.server.Listener.Close()
	d.server.Listener, d.server.EnableHTTP2 = listener, true
	d.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	d.server.StartTLS()
	return err
}

// shut ends all connections and takes no new ones.
func (d *door) shut() {
	d.mu.Lock()
	server := d.server
	d.end()
	d.mu.Unlock()
	server.CloseClientConnections()
	server.Close()
}

// forget has the API server answer as if there were no Services and no EndpointSlices, or as it is.
func (d *door) forget(everything bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.empty = everything
	d.end()
	d.epoch, d.end = context.WithCancel(context.Background())
}

// forgetful is the version of lists that were answered while everything was forgotten. No API server is so young.
const forgetful = "1"

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	empty, epoch := d.empty, d.epoch
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(epoch, cancel)()

	query, resource := r.URL.Query(), path.Base(r.URL.Path)
	concerned := r.Method == http.MethodGet && (resource == "services" || resource == "endpointslices")
	switch watch := query.Get("watch") != ""; {
	case strings.Contains(query.Get("fieldSelector"), "metadata.name=kubernetes"):
		http.NotFound(w, r) // no way around this door is to be found
	case !concerned || !empty && query.Get("resourceVersion") != forgetful:
		d.proxy.ServeHTTP(w, r.WithContext(ctx))
	case !watch && !empty:
		query.Del("resourceVersion")
		r.URL.RawQuery = query.Encode()
		d.proxy.ServeHTTP(w, r.WithContext(ctx))
	case !watch:
		kind := map[string]string{"services": `"ServiceList","apiVersion":"v1"`, "endpointslices": `"EndpointSliceList","apiVersion":"discovery.k8s.io/v1"`}[resource]
		answer(w, http.StatusOK, fmt.Sprintf(`{"kind":%s,"metadata":{"resourceVersion":%q},"items":[]}`, kind, forgetful))
	case query.Get("sendInitialEvents") != "":
		answer(w, http.StatusBadRequest, status(http.StatusBadRequest, "BadRequest"))
	case empty && query.Get("resourceVersion") == forgetful:
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-ctx.Done()
	default:
		answer(w, http.StatusGone, status(http.StatusGone, "Expired"))
	}
}

func status(code int, reason string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":"for a test"}`, code, reason)
}

func answer(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) // the client is gone
}
