package health

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
)

// Check is what load balancers are told of a Service.
type Check struct {
	Service types.NamespacedName
	// Port is the healthCheckNodePort; 0 when there is none to serve: the Service is gone, is not of type LoadBalancer
	// with externalTrafficPolicy: Local, or belongs to another proxy.
	Port uint16
	// LocalReady is how many ready endpoints the Service has on this node.
	LocalReady int
}

// Failure is an address at which a Service cannot be asked for. The other addresses and Services are not affected.
type Failure struct {
	Service types.NamespacedName
	Err     error
	// Repeated says that the last Sync said the same.
	Repeated bool
}

// NodePorts answers load balancers that ask, at the healthCheckNodePort of a Service, whether this node has endpoints of
// it: on any path 200 where it has and the proxy is healthy, else 503, with the headers and the body of kube-proxy. Its
// methods are not safe for concurrent use.
type NodePorts struct {
	healthy func() bool
	checks  map[types.NamespacedName]*check
	open    map[endpoint]*listener
	failed  map[endpoint]string
}

// check is a Check that is being answered.
type check struct {
	service    types.NamespacedName
	port       uint16
	localReady atomic.Int64
}

// endpoint is where a Service is asked for. The zero Addr is every address of the node.
type endpoint struct {
	service types.NamespacedName
	addr    netip.Addr
	port    uint16
}

func (e endpoint) String() string {
	host := ""
	if e.addr.IsValid() {
		host = e.addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(e.port)))
}

// listener is an endpoint that is open; done is closed when it no longer is.
type listener struct {
	check  *check
	server *http.Server
	done   chan struct{}
}

// NewNodePorts returns a NodePorts that answers for no Service yet. The proxy counts as healthy when healthy says so, as
// Status.Healthy does.
func NewNodePorts(healthy func() bool) *NodePorts {
	return &NodePorts{
		healthy: healthy,
		checks:  map[types.NamespacedName]*check{},
		open:    map[endpoint]*listener{},
		failed:  map[endpoint]string{},
	}
}

// Set says what to answer for a Service from now on. Ports are opened and closed by the next Sync.
func (n *NodePorts) Set(c Check) {
	if c.Port == 0 {
		delete(n.checks, c.Service)
		return
	}
	known := n.checks[c.Service]
	if known == nil || known.port != c.Port {
		known = &check{service: c.Service, port: c.Port}
		n.checks[c.Service] = known
	}
	known.localReady.Store(int64(c.LocalReady))
}

// Sync closes the ports that are no longer asked for, together with the connections to them, and opens those that are:
// on the addresses of this node within the given networks, or on every address when networks is nil. It returns every
// port that cannot be opened, such as one that a process of the host has; the next Sync tries again. The context bounds
// only the call.
func (n *NodePorts) Sync(ctx context.Context, networks []netip.Prefix) []Failure {
	hosts, err := hostsWithin(networks)
	if err != nil {
		return n.failAll(err)
	}
	wanted := map[endpoint]*check{}
	for _, c := range n.checks {
		for _, host := range hosts {
			wanted[endpoint{c.service, host, c.port}] = c
		}
	}
	for e, l := range n.open {
		if wanted[e] != l.check || l.ended() {
			l.close()
			delete(n.open, e)
		}
	}
	errs := map[endpoint]error{}
	for _, e := range slices.SortedFunc(maps.Keys(wanted), endpoint.compare) {
		if n.open[e] != nil {
			continue
		}
		l, err := n.listen(ctx, e, wanted[e])
		if err != nil {
			errs[e] = err
			continue
		}
		n.open[e] = l
	}
	return n.fail(errs)
}

// failAll leaves open what is, because where ports should be open is not known.
func (n *NodePorts) failAll(err error) []Failure {
	errs := map[endpoint]error{}
	for _, c := range n.checks {
		errs[endpoint{service: c.service, port: c.port}] = err
	}
	return n.fail(errs)
}

func (n *NodePorts) fail(errs map[endpoint]error) []Failure {
	var failures []Failure
	failed := map[endpoint]string{}
	for _, e := range slices.SortedFunc(maps.Keys(errs), endpoint.compare) {
		failed[e] = errs[e].Error()
		failures = append(failures, Failure{Service: e.service, Err: errs[e], Repeated: n.failed[e] == failed[e]})
	}
	n.failed = failed
	return failures
}

// Close closes every port.
func (n *NodePorts) Close() {
	for e, l := range n.open {
		l.close()
		delete(n.open, e)
	}
}

func (n *NodePorts) listen(ctx context.Context, e endpoint, c *check) (*listener, error) {
	socket, err := (&net.ListenConfig{}).Listen(ctx, "tcp", e.String())
	if err != nil {
		return nil, fmt.Errorf("opening healthCheckNodePort %d: %w", e.port, err)
	}
	l := &listener{
		check:  c,
		server: &http.Server{Handler: n.handler(c), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(l.done)
		_ = l.server.Serve(socket) // the next Sync sees that it ended
	}()
	return l, nil
}

func (l *listener) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *listener) close() {
	_ = l.server.Close() // what matters is that it ends
	<-l.done
}

// serviceAnswer is the body of kube-proxy's answer.
type serviceAnswer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int64 `json:"localEndpoints"`
	ServiceProxyHealthy bool  `json:"serviceProxyHealthy"`
}

func (n *NodePorts) handler(c *check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := serviceAnswer{LocalEndpoints: c.localReady.Load(), ServiceProxyHealthy: n.healthy()}
		a.Service.Namespace, a.Service.Name = c.service.Namespace, c.service.Name
		// Load balancers that know this header spread connections by it.
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(a.LocalEndpoints, 10))
		respond(w, a, a.LocalEndpoints > 0 && a.ServiceProxyHealthy)
	})
}

func (e endpoint) compare(o endpoint) int {
	return cmp.Or(cmp.Compare(e.service.Namespace, o.service.Namespace), cmp.Compare(e.service.Name, o.service.Name),
		cmp.Compare(e.port, o.port), e.addr.Compare(o.addr))
}

// hostsWithin are the addresses of this node within networks, without those of IPv6 that mean nothing without their
// interface. Without networks it is the zero Addr, which stands for every address.
func hostsWithin(networks []netip.Prefix) ([]netip.Addr, error) {
	if networks == nil {
		return []netip.Addr{{}}, nil
	}
	addrs, err := addresses.List()
	if err != nil {
		return nil, err
	}
	var hosts []netip.Addr
	for _, addr := range addrs {
		if (addr.Is4() || !addr.IsLinkLocalUnicast()) && addresses.Within(addr, networks) {
			hosts = append(hosts, addr)
		}
	}
	return hosts, nil
}
