package apiserver_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
)

// service is an address where nobody listens, as that of a Service that nobody has programmed.
const service = "localhost:1"

func TestOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "apiservers.json")
	if err := os.WriteFile(file, []byte(`{"version":1,"servers":["192.0.2.1:6443","192.0.2.2:6443"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		host    string
		options apiserver.Options
		want    []string
	}{
		"nothing is known but a Service": {
			"https://10.96.0.1:443", apiserver.Options{OfService: true}, []string{"10.96.0.1:443"},
		},
		"what was found comes before the Service": {
			"https://10.96.0.1:443", apiserver.Options{OfService: true, File: file},
			[]string{"192.0.2.1:6443", "192.0.2.2:6443", "10.96.0.1:443"},
		},
		"what is given comes first, and nothing comes twice": {
			"https://10.96.0.1:443", apiserver.Options{OfService: true, File: file, Given: []string{"lb:6443", "192.0.2.2:6443"}},
			[]string{"lb:6443", "192.0.2.2:6443", "192.0.2.1:6443", "10.96.0.1:443"},
		},
		"what a person has configured comes before what was found": {
			"https://api.example.com", apiserver.Options{File: file},
			[]string{"api.example.com:443", "192.0.2.1:6443", "192.0.2.2:6443"},
		},
		"IPv6": {"https://[fd00::1]:443", apiserver.Options{}, []string{"[fd00::1]:443"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			servers, err := apiserver.New(t.Context(), &rest.Config{Host: test.host}, test.options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, servers.Known()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadAddresses(t *testing.T) {
	for _, given := range []string{"192.0.2.1", "192.0.2.1:https", "192.0.2.1:0", "fd00::1:6443", ""} {
		t.Run(given, func(t *testing.T) {
			_, err := apiserver.New(t.Context(), &rest.Config{Host: service}, apiserver.Options{Given: []string{given}})
			if err == nil || !strings.Contains(err.Error(), "address of an API server") {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	for name, content := range map[string]string{
		"cut off": `{"version":1,"ser`, "of a later version": `{"version":2,"servers":["192.0.2.1:6443"]}`, "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "apiservers.json")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			servers, err := apiserver.New(t.Context(), &rest.Config{Host: "https://" + service}, apiserver.Options{File: file})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{service}, servers.Known()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	slice := &discoveryv1.EndpointSlice{
		Ports: []discoveryv1.EndpointPort{
			{Name: new("https"), Port: new(int32(6443))}, {Name: new("metrics"), Port: new(int32(9443))}, {Name: new("https")},
		},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"192.0.2.2"}},
			{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{"192.0.2.3"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}},
			{Addresses: []string{"2001:db8::1"}},
		},
	}
	want := []string{"192.0.2.1:6443", "192.0.2.2:6443", "[2001:db8::1]:6443"}
	if diff := cmp.Diff(want, apiserver.Addresses(slice)); diff != "" {
		t.Error(diff)
	}
}

// TestFailOver connects to a server behind addresses that are of no use, each in its own way.
func TestFailOver(t *testing.T) {
	tests := map[string]func(*testing.T) string{
		"refuses":                     func(*testing.T) string { return "127.0.0.1:1" },
		"hangs up":                    hangsUp,
		"does not answer packets":     dropsPackets,
		"has a certificate of others": func(t *testing.T) string { return newServer(t).address },
	}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			good := newServer(t)
			address := bad(t)
			servers, client := connect(t, good.authority, apiserver.Options{Given: []string{address, good.address}, OfService: true})
			// One that connects and is of no use costs one request.
			if err := get(t.Context(), client); err != nil {
				if err := get(t.Context(), client); err != nil {
					t.Fatal(err)
				}
			}
			if known := servers.Known(); known[0] != good.address {
				t.Errorf("the order is %v, and the good one, %s, is not first", known, good.address)
			}
			if name := good.serverName.Load(); name == nil || *name != "localhost" {
				t.Errorf("the client asked for the certificate of %v, not for that of the address it was configured with", name)
			}
		})
	}
}

// TestOneConnection makes several clients, and expects them to share a connection.
func TestOneConnection(t *testing.T) {
	good := newServer(t)
	servers, client := connect(t, good.authority, apiserver.Options{Given: []string{good.address}, OfService: true})
	other, err := rest.HTTPClientFor(servers.Config())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, c := range []*http.Client{client, other} {
			if err := get(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := good.connections.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}

// TestManyAtOnce makes many requests at once, for which more connections are opened than are used in the end.
func TestManyAtOnce(t *testing.T) {
	good := newServer(t)
	servers, client := connect(t, good.authority, apiserver.Options{Given: []string{good.address}, OfService: true})
	var requests errgroup.Group
	for range 20 {
		requests.Go(func() error { return get(t.Context(), client) })
	}
	if err := requests.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{good.address, service}, servers.Known()); diff != "" {
		t.Error(diff)
	}
}

// server is an API server as far as connections go.
type server struct {
	address     string
	authority   []byte
	serverName  atomic.Pointer[string]
	connections atomic.Int32
}

func newServer(t *testing.T) *server {
	t.Helper()
	certificate := newCertificate(t, "localhost")
	s := &server{authority: certificate.authority}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	web.EnableHTTP2 = true
	web.TLS = &tls.Config{
		Certificates: []tls.Certificate{certificate.pair},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			s.serverName.Store(&hello.ServerName)
			return nil, nil
		},
	}
	web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	web.StartTLS()
	t.Cleanup(web.Close)
	s.address = web.Listener.Addr().String()
	return s
}

func connect(t *testing.T, authority []byte, options apiserver.Options) (*apiserver.Servers, *http.Client) {
	t.Helper()
	config := &rest.Config{Host: "https://" + service, TLSClientConfig: rest.TLSClientConfig{CAData: authority}}
	servers, err := apiserver.New(t.Context(), config, options)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(servers.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return servers, client
}

func get(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+service, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// hangsUp returns an address where connections are accepted and closed.
func hangsUp(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// dropsPackets returns an address like that of a machine that is gone: the kernel drops what opens a connection while
// the queue of a listener is full.
func dropsPackets(t *testing.T) string {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(socket) })
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(socket, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}).String()
	for range 8 {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the queue of the listener does not fill")
	return ""
}
