package query_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
	"github.com/serviceproxy/service-proxy-operator/dataplane/trace"
)

// echo answers with what it was asked.
type echo struct{}

func (echo) Service(_ context.Context, name types.NamespacedName) (query.Service, error) {
	return query.Service{Node: query.Node{Name: "one"}, Service: name.String()}, nil
}

func (echo) Trace(_ context.Context, p query.Packet) (query.Trace, error) {
	return query.Trace{From: p.From.String(), To: p.To.String(), Protocol: p.Protocol.String(), Decision: trace.Decision{Verdict: trace.Drop}}, nil
}

func (echo) Kernel(context.Context, query.Packet) (query.Kernel, error) {
	return query.Kernel{}, errors.New("reading the kernel back: it has gone")
}

func open(t *testing.T) (client *query.Client, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "state", "agent.sock")
	listener, err := query.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: query.Handler(echo{})}
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return query.NewClient(socket), socket
}

func TestAsk(t *testing.T) {
	client, _ := open(t)
	service, err := query.Ask[query.Service](t.Context(), client, "service", url.Values{"name": {"shop/web"}})
	if diff := cmp.Diff(query.Service{Node: query.Node{Name: "one"}, Service: "shop/web"}, service); err != nil || diff != "" {
		t.Errorf("%v, service (-want +got):\n%s", err, diff)
	}
	got, err := query.Ask[query.Trace](t.Context(), client, "trace", url.Values{"from": {"::ffff:10.0.0.1"}, "to": {"172.30.0.1:53"}, "protocol": {"UDP"}})
	want := query.Trace{From: "10.0.0.1", To: "172.30.0.1:53", Protocol: "udp", Decision: trace.Decision{Verdict: trace.Drop}}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("%v, trace (-want +got):\n%s", err, diff)
	}
}

func TestAskBadly(t *testing.T) {
	client, _ := open(t)
	tests := map[string]struct {
		question string
		values   url.Values
		want     string
	}{
		"no namespace":     {"service", url.Values{"name": {"web"}}, `"web" is not NAMESPACE/NAME of a Service`},
		"no address":       {"trace", url.Values{"from": {"web"}, "to": {"172.30.0.1:53"}}, `"web" is neither an address nor "node"`},
		"no port":          {"trace", url.Values{"from": {"node"}, "to": {"172.30.0.1"}}, `"172.30.0.1" is not ADDRESS:PORT`},
		"two families":     {"trace", url.Values{"from": {"fd00::1"}, "to": {"172.30.0.1:53"}}, "are not of one family"},
		"unknown protocol": {"trace", url.Values{"from": {"node"}, "to": {"172.30.0.1:53"}, "protocol": {"icmp"}}, `"icmp" is none of the protocols`},
		"fault":            {"kernel", url.Values{"to": {"172.30.0.1:53"}}, "the agent says: reading the kernel back: it has gone"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := query.Ask[query.Trace](t.Context(), client, test.question, test.values)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestParsePacketKnowsEveryProtocol(t *testing.T) {
	for text, want := range map[string]forwarding.Protocol{"": forwarding.TCP, "tcp": forwarding.TCP, "Udp": forwarding.UDP, "SCTP": forwarding.SCTP} {
		p, err := query.ParsePacket(query.FromNode, "[fd00::1]:80", text)
		if err != nil || p.Protocol != want || !p.Node || p.To != netip.MustParseAddrPort("[fd00::1]:80") {
			t.Errorf("%q: got %+v, %v", text, p, err)
		}
	}
}

func TestSocket(t *testing.T) {
	_, socket := open(t)
	info, err := os.Stat(socket)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("the socket has mode %v, %v", info.Mode(), err)
	}
	// The next agent opens its own before the one before has ended, and what is left can be removed, also twice.
	listener, err := query.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := query.Ask[query.Service](t.Context(), query.NewClient(socket), "service", url.Values{}); err == nil {
		t.Error("a socket at which nobody listens has answered")
	}
	if err := errors.Join(query.Remove(socket), query.Remove(socket)); err != nil {
		t.Error(err)
	}
}
