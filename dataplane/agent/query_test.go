package agent

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
)

func TestWhatTheAgentSaysOfAService(t *testing.T) {
	name := types.NamespacedName{Namespace: "shop", Name: "web"}
	addr := netip.MustParseAddr("172.30.0.1")
	backend := netip.MustParseAddr("10.0.0.1")
	service := func(name types.NamespacedName) []*forwarding.ServicePort {
		ports, _ := forwarding.Compute(
			&forwarding.Service{
				Name: name, ClusterIPs: []netip.Addr{addr}, ExternalLocal: true,
				Ports: []forwarding.Port{{Name: "http", Protocol: forwarding.TCP, Port: 80, NodePort: 30080}},
			},
			[]*forwarding.Slice{{
				Ports:     []forwarding.SlicePort{{Name: "http", Protocol: forwarding.TCP, Port: 8080}},
				Endpoints: []forwarding.Endpoint{{Addr: backend, Ready: true}},
			}},
			&forwarding.Node{DetectsPods: [2]bool{true, true}})
		return ports
	}
	table := forwarding.NewTable()
	other := types.NamespacedName{Namespace: "shop", Name: "twin"}
	table.Update(name, 0, service(name))
	table.Update(other, 1, service(other))
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	assigned := &Assignment{Revision: "r1", Settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}}
	l := &loop{
		table: table, catalog: catalog.New("one", time.Now), course: &course{assignment: assigned},
		state: state{assignment: assigned, applied: assigned, lastSync: since},
	}
	asked := make(questions)
	var answering sync.WaitGroup
	answering.Go(func() {
		for answer := range asked {
			answer(l)
		}
	})
	defer answering.Wait()
	defer close(asked)

	got, err := (&witness{questions: asked, node: "one"}).Service(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	want := query.Service{
		Node:    query.Node{Name: "one", Mode: "iptables", Revision: "r1", Since: &since},
		Service: "shop/web", Known: true, Programmed: true,
		Ports: []query.Port{{
			Name: "http", Protocol: "TCP", Family: "IPv4", Cluster: []netip.AddrPort{netip.AddrPortFrom(backend, 8080)},
			Frontends: []query.Frontend{
				{Kind: "cluster IP", Address: "172.30.0.1:80/tcp", Pods: "Cluster", Node: "Cluster", Elsewhere: "Cluster"},
				{Kind: "node port", Address: "node port 30080/tcp", Pods: "Cluster", Node: "Cluster", Elsewhere: "Drop"},
			},
		}},
		Disputes: []query.Dispute{
			{Address: "node port 30080/tcp", Holder: "shop/web:http", Waiting: []string{"shop/twin:http"}},
			{Address: "172.30.0.1:80/tcp", Holder: "shop/web:http", Waiting: []string{"shop/twin:http"}},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	unknown, err := (&witness{questions: asked, node: "one"}).Service(t.Context(), types.NamespacedName{Namespace: "shop", Name: "none"})
	if err != nil || unknown.Known || unknown.Programmed {
		t.Errorf("of a Service that there is not it says %+v, %v", unknown, err)
	}
}

func TestABusyAgentIsNotWaitedForForever(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := (&witness{questions: make(questions)}).Kernel(ctx, query.Packet{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestWhyTheKernelDoesNotHoldTheTable(t *testing.T) {
	assigned := &Assignment{Revision: "r1"}
	tests := map[string]struct {
		loop loop
		want string
	}{
		"nothing assigned": {loop{}, "no settings are assigned to this node"},
		"released":         {loop{cleared: true, state: state{assignment: assigned}}, "this node was released: another proxy serves it, or none"},
		"refused": {loop{state: state{assignment: assigned, refused: &refusal{message: "spec.masquerade.bit: 99 is too much"}}},
			"the settings cannot be carried out here: spec.masquerade.bit: 99 is too much"},
		"failed": {loop{course: &course{}, state: state{assignment: assigned, failed: errors.New("no")}},
			"writing to the kernel failed and is tried again: no"},
		"just started": {loop{state: state{assignment: assigned}}, "the agent has just started and has not programmed anything yet"},
		"from memory": {loop{course: &course{}, state: state{assignment: assigned, lastSync: time.Unix(1, 0), remembered: time.Unix(1, 0)}},
			"the API server cannot be reached since the agent started; this is what it said last"},
		"all is well": {loop{course: &course{}, state: state{assignment: assigned, lastSync: time.Unix(1, 0)}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.loop.catalog = catalog.New("one", time.Now)
			if got := test.loop.pending(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
