// Package apiserver reaches the API server without any Service.
//
// A Pod is told the cluster IP of Service default/kubernetes, which is of no use to the program that makes cluster IPs
// work. So connections to the configured address go to the API servers themselves: to those that were given, and to
// those that the EndpointSlice of the Service lists, which are remembered on disk for the next start. Where several are
// known they are tried one after the other, with a short head start each, and one that takes connections without ever
// answering comes after those that do.
//
// Only where a connection goes is changed. The name and the authority that the server's certificate is checked against
// stay those of the configuration, and credentials are sent after that check alone, so that a wrong address costs time
// and nothing else.
package apiserver

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// Options say what is known beforehand.
type Options struct {
	// Given are addresses (host:port) of API servers, or of load balancers before them. They are tried first.
	Given []string
	// OfService says that the configured address is that of a Service, which is tried last. Otherwise somebody has
	// chosen it, and it comes before those that are found.
	OfService bool
	// File is where the addresses that were found are remembered; nothing is remembered without it.
	File string
}

// Servers are the API servers of a cluster as far as they are known. It is safe for concurrent use.
type Servers struct {
	config     *rest.Config
	configured string // host:port
	dialer     net.Dialer
	options    Options

	mu    sync.Mutex
	found []string
	// events numbers what happens to addresses, in the order of time; failures and answers have the numbers of the last
	// failure and of the last answer of each.
	events            uint64
	failures, answers map[string]uint64
}

// connectTimeout bounds one attempt to connect. While it lasts others are under way.
const connectTimeout = 10 * time.Second

// New returns the API servers of a configuration. An error says which address is not host:port. A file that cannot be
// read is logged: the addresses in it are only a shortcut.
func New(ctx context.Context, config *rest.Config, options Options) (*Servers, error) {
	host, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the API server: %w", err)
	}
	for _, given := range options.Given {
		if _, port, err := net.SplitHostPort(given); err != nil {
			return nil, fmt.Errorf("reading the address of an API server: %w", err)
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("reading the address of an API server: %q has no port between 1 and 65535", given)
		}
	}
	s := &Servers{
		configured: hostPort(host),
		dialer:     net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second},
		options:    options,
		failures:   map[string]uint64{},
		answers:    map[string]uint64{},
	}
	if options.File != "" {
		if s.found, err = load(options.File); err != nil {
			klog.FromContext(ctx).Error(err, "Starting without the API servers that were known before")
		}
	}
	if s.config, err = s.wrap(config, host); err != nil {
		return nil, err
	}
	return s, nil
}

// Config returns a configuration that reaches any of the API servers. All clients that are made with it, or with copies
// of it, share their connections.
func (s *Servers) Config() *rest.Config { return rest.CopyConfig(s.config) }

// wrap makes one transport, credentials included, that all clients share. A configuration that only had a dialer of its
// own would open connections for every client.
func (s *Servers) wrap(config *rest.Config, host *url.URL) (*rest.Config, error) {
	inner := rest.CopyConfig(config)
	inner.Dial = s.dial
	inner.Wrap(s.observe)
	transport, err := rest.TransportFor(inner)
	if err != nil {
		return nil, fmt.Errorf("setting up connections to the API server: %w", err)
	}
	outer := rest.AnonymousClientConfig(config)
	outer.Host = host.String()
	outer.TLSClientConfig = rest.TLSClientConfig{}
	outer.Dial, outer.Proxy, outer.WrapTransport = nil, nil, nil
	outer.Transport = transport
	return outer, nil
}

// Known returns the addresses in the order in which they are tried: those that have not failed since they last answered,
// and then the others, the one that failed last at the end.
func (s *Servers) Known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := slices.Clone(s.options.Given)
	if s.options.OfService {
		known = append(append(known, s.found...), s.configured)
	} else {
		known = append(append(known, s.configured), s.found...)
	}
	known = distinct(known)
	slices.SortStableFunc(known, func(a, b string) int { return cmp.Compare(s.standingFailure(a), s.standingFailure(b)) })
	return known
}

// standingFailure returns the number of the last failure of an address, 0 if it has answered since.
func (s *Servers) standingFailure(address string) uint64 {
	if s.failures[address] < s.answers[address] {
		return 0
	}
	return s.failures[address]
}

// distinct returns the strings in their order, each once.
func distinct(all []string) []string {
	var once []string
	for _, one := range all {
		if !slices.Contains(once, one) {
			once = append(once, one)
		}
	}
	return once
}

// find replaces the addresses that were found, and tells whether they are others than before. None at all is not
// believed: whoever told us is an API server.
func (s *Servers) find(addresses []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(addresses) == 0 || slices.Equal(addresses, s.found) {
		return false
	}
	s.found = addresses
	return true
}

// now returns the number of the last event.
func (s *Servers) now() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events
}

// noteFailure notes that an address was of no use, unless it has answered since an event, over another connection.
func (s *Servers) noteFailure(address string, since uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers[address] > since {
		return
	}
	s.events++
	s.failures[address] = s.events
}

// noteAnswer notes that an address is good.
func (s *Servers) noteAnswer(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events++
	s.answers[address] = s.events
}

// Addresses returns the addresses (host:port) in the EndpointSlice of Service default/kubernetes, in order. The API
// servers write it themselves, see pkg/controlplane/reconcilers of Kubernetes.
func Addresses(slice *discoveryv1.EndpointSlice) []string {
	var addresses []string
	for _, port := range slice.Ports {
		if ptr.Deref(port.Name, "") != "https" || port.Port == nil {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if ptr.Deref(endpoint.Conditions.Ready, true) && len(endpoint.Addresses) > 0 {
				addresses = append(addresses, net.JoinHostPort(endpoint.Addresses[0], strconv.Itoa(int(*port.Port))))
			}
		}
	}
	slices.Sort(addresses)
	return addresses
}

// hostPort returns the address that a connection for the URL goes to.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
