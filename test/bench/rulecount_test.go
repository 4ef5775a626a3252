package bench

import (
	"context"
	"fmt"

	"os/exec"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
)

// shapes are the 18 configurations that kube-proxy counts its rules for.
func shapes() []shape {
	var all []shape
	for _, exposed := range []bool{false, true} {
		for _, services := range []int{0, 1, 10} {
			for _, endpoints := range []int{0, 1, 10} {
				all = append(all, shape{services: services, endpoints: endpoints, exposed: exposed})
			}
		}
	}
	return all
}

// String is SERVICESxENDPOINTS and the kind.
func (s shape) String() string {
	kind := "cluster-IP"
	if s.exposed {
		kind = "exposed"
	}
	return fmt.Sprintf("%dx%d-%s", s.services, s.endpoints, kind)
}

// ourRules counts the rules of nat and filter in a kernel that nobody else writes to: everything, jumps included.
func ourRules(tb testing.TB, s shape) int {
	tb.Helper()
	n := filled(tb, newHost(tb), xtables.NFT, newPlan(s, serviceRange, endpointRange))
	count := 0
	n.do(tb, func() error {
		for _, table := range []string{"nat", "filter"} {
			out, err := exec.CommandContext(tb.Context(), "iptables-nft-save", "-t", table).Output()
			if err != nil {
				return fmt.Errorf("listing table %s: %w", table, err)
			}
			count += countRules(string(out))
		}
		return nil
	})
	return count
}

// kubeProxyAdds is how many rules kube-proxy v1.37 adds in nat and filter for Services. BenchmarkKubeProxy sees to it
// that the real one does.
func kubeProxyAdds(s shape) int {
	perService := 2 + 3*s.endpoints
	switch {
	case s.endpoints == 0 && s.exposed:
		perService = 4 // rejects, one at each kind of address
	case s.endpoints == 0:
		perService = 1
	case s.exposed:
		perService = 11 + 3*s.endpoints
	}
	return s.services * perService
}

// TestRuleCount compares what Services add to the rules of a node. With ten endpoints it is to be half of what it is with
// kube-proxy, at most.
func TestRuleCount(t *testing.T) {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "Services x endpoints\tours\tkube-proxy's\tratio\t\n")
	bare := ourRules(t, shape{})
	for _, s := range shapes() {
		ours, theirs := ourRules(t, s)-bare, kubeProxyAdds(s)
		ratio := "-"
		if theirs > 0 {
			ratio = fmt.Sprintf("%.2f", float64(ours)/float64(theirs))
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t\n", s, ours, theirs, ratio)
		if s.endpoints == 10 && 2*ours > theirs {
			t.Errorf("%s: %d rules, more than half of kube-proxy's %d", s, ours, theirs)
		}
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("rules that Services add, in tables nat and filter:\n%s", &text)
}

// checkCounts sees to it that the real kube-proxy adds as many rules as kubeProxyAdds says.
func (k *kubeProxy) checkCounts(b *testing.B) {
	b.Helper()
	ourBare, bare := ourRules(b, shape{}), k.rules(b.Context())
	b.Logf("rules without Services: %d of ours, %d of kube-proxy's", ourBare, bare)
	for _, s := range shapes() {
		objects := k.exposedServices(b, newPlan(s, serviceRange, endpointRange))
		want := bare + kubeProxyAdds(s)
		eventually(b, fmt.Sprintf("kube-proxy has %d rules for %s", want, s), func(ctx context.Context) bool {
			return k.rules(ctx) == want
		})
		if theirs := kubeProxyAdds(s); theirs > 0 {
			results.add("RuleCount/"+s.String(), "added/kube-proxy", float64(ourRules(b, s)-ourBare)/float64(theirs))
		}
		err := churn.Each(b.Context(), objects, func(ctx context.Context, o client.Object) error {
			return k.cluster.Client().Delete(ctx, o)
		})
		if err != nil {
			b.Fatal(err)
		}
		eventually(b, "kube-proxy has forgotten Services", func(ctx context.Context) bool { return k.rules(ctx) == bare })
	}
}

func (k *kubeProxy) rules(ctx context.Context) int {
	count := 0
	for _, table := range []string{"nat", "filter"} {
		rules, err := k.save(ctx, table)
		if err != nil {
			return 0
		}
		count += countRules(withoutOwn(rules))
	}
	return count
}

// exposedServices creates the Services of a plan, and what a load balancer's controller would write.
func (k *kubeProxy) exposedServices(b *testing.B, p *plan) []client.Object {
	b.Helper()
	var objects []client.Object
	for i := range p.services {
		svc := churn.Service(metav1.NamespaceDefault, p.name(i), p.clusterIPs[i])
		if p.exposed {
			svc.Spec.Type = corev1.ServiceTypeLoadBalancer
			svc.Spec.ExternalIPs = []string{p.externalIP(i).String()}
			svc.Spec.LoadBalancerSourceRanges = []string{sources.String()}
			svc.Spec.Ports[0].NodePort = int32(p.nodePort(i))
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: p.loadBalancerIP(i).String()}}
		}
		status := svc.Status
		if err := k.cluster.Client().Create(b.Context(), svc); err != nil {
			b.Fatal(err)
		}
		if p.exposed {
			svc.Status = status
			if err := k.cluster.Client().Status().Update(b.Context(), svc); err != nil {
				b.Fatal(err)
			}
		}
		slice := churn.Slice(metav1.NamespaceDefault, p.name(i), "a", time.Now(), p.addresses(i, 0)...)
		if err := k.cluster.Client().Create(b.Context(), slice); err != nil {
			b.Fatal(err)
		}
		objects = append(objects, svc, slice)
	}
	return objects
}
