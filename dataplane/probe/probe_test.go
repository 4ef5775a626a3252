package probe_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/probe"
)

// listen accepts connections on a port of the loopback interface until the test ends or the returned function is called.
func listen(t *testing.T) (netip.AddrPort, func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { _ = l.Close() } // a second time it is closed already
	t.Cleanup(stop)
	return netip.MustParseAddrPort(l.Addr().String()), stop
}

// service puts a Service with cluster IPs into a table.
func service(table *forwarding.Table, namespace, name string, clusterIPs ...netip.AddrPort) {
	id := types.NamespacedName{Namespace: namespace, Name: name}
	var ports []*forwarding.ServicePort
	for _, at := range clusterIPs {
		ports = append(ports, &forwarding.ServicePort{
			ID: forwarding.PortID{Service: id, Port: "main", Protocol: forwarding.TCP, IPv6: at.Addr().Is6()},
			Frontends: []forwarding.Frontend{{
				Key:  forwarding.Key{Addr: at.Addr(), Port: at.Port(), Protocol: forwarding.TCP, IPv6: at.Addr().Is6()},
				Kind: forwarding.ClusterIP,
			}},
		})
	}
	table.Update(id, 0, ports)
}

func target(name string, at netip.AddrPort) probe.Target {
	return probe.Target{Name: name, Service: types.NamespacedName{Namespace: "ns", Name: name}, Port: at.Port()}
}

func TestTheAPIServerIsAlwaysATarget(t *testing.T) {
	named := []v1alpha1.Probe{{Name: "shop", Service: v1alpha1.ProbeService{Namespace: "ns", Name: "web", Port: 80}}}
	want := []probe.Target{
		{Name: "API server", Service: types.NamespacedName{Namespace: "default", Name: "kubernetes"}, Port: 443},
		{Name: "shop", Service: types.NamespacedName{Namespace: "ns", Name: "web"}, Port: 80},
	}
	if diff := cmp.Diff(want, probe.Targets(named)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPassing(t *testing.T) {
	open, _ := listen(t)
	closed, stop := listen(t)
	stop()
	table := forwarding.NewTable()
	service(table, "ns", "open", open)
	service(table, "ns", "closed", closed)
	service(table, "other", "elsewhere", open)
	tests := map[string]struct {
		target probe.Target
		passes bool
	}{
		"answers":                   {target("open", open), true},
		"does not answer":           {target("closed", closed), false},
		"no such Service":           {target("unknown", open), false},
		"no such port":              {target("open", closed), false},
		"in another namespace":      {target("elsewhere", open), false},
		"an address of its Service": {target("open", open), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := probe.New(clock.RealClock{}).Passing(t.Context(), table, []probe.Target{test.target})
			var want []probe.Passed
			if test.passes {
				want = []probe.Passed{{Target: test.target, At: open}}
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestCheckIsQuickWhenEverythingAnswers(t *testing.T) {
	at, _ := listen(t)
	table := forwarding.NewTable()
	service(table, "ns", "web", at)
	synctest.Test(t, func(t *testing.T) { // where time goes by only for those who wait for it
		prober := probe.New(clock.RealClock{})
		before := prober.Passing(t.Context(), table, []probe.Target{target("web", at)})
		start := time.Now()
		if err := prober.Check(t.Context(), table, before); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("waited %s", took)
		}
	})
}

func TestCheckNamesWhatDoesNotAnswerAnyMore(t *testing.T) {
	stays, _ := listen(t)
	goes, stop := listen(t)
	table := forwarding.NewTable()
	service(table, "ns", "stays", stays)
	service(table, "ns", "goes", goes)
	synctest.Test(t, func(t *testing.T) {
		prober := probe.New(clock.RealClock{})
		before := prober.Passing(t.Context(), table, []probe.Target{target("stays", stays), target("goes", goes)})
		if len(before) != 2 {
			t.Fatalf("%d of 2 passed", len(before))
		}
		stop()
		start := time.Now()
		err := prober.Check(t.Context(), table, before)
		failed, ok := errors.AsType[*probe.FailedError](err)
		if !ok || len(failed.Failed) != 1 || failed.Failed[0].Name != "goes" {
			t.Fatalf("got %v, want that goes failed", err)
		}
		for _, part := range []string{"goes (Service ns/goes at " + goes.String() + ")", "connection refused"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestCheckTriesAgain(t *testing.T) {
	at, _ := listen(t)
	table := forwarding.NewTable()
	service(table, "ns", "web", at)
	synctest.Test(t, func(t *testing.T) {
		prober := probe.New(clock.RealClock{})
		before := prober.Passing(t.Context(), table, []probe.Target{target("web", at)})
		refuseUntil, connect := time.Now().Add(3*time.Second), prober.Dial
		prober.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if time.Now().Before(refuseUntil) {
				<-ctx.Done() // as when packets are dropped
				return nil, ctx.Err()
			}
			return connect(ctx, network, address)
		}
		if err := prober.Check(t.Context(), table, before); err != nil {
			t.Error(err)
		}
	})
}

func TestCheckEndsWithItsContext(t *testing.T) {
	at, stop := listen(t)
	table := forwarding.NewTable()
	service(table, "ns", "web", at)
	prober := probe.New(clock.RealClock{})
	before := prober.Passing(t.Context(), table, []probe.Target{target("web", at)})
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := prober.Check(ctx, table, before); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAServiceThatIsDeletedFailsNothing(t *testing.T) {
	at, stop := listen(t)
	table := forwarding.NewTable()
	service(table, "ns", "web", at)
	prober := probe.New(clock.RealClock{})
	before := prober.Passing(t.Context(), table, []probe.Target{target("web", at)})
	stop()
	service(table, "ns", "web")
	if err := prober.Check(t.Context(), table, before); err != nil {
		t.Error(err)
	}
}
