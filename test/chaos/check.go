package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// How often is looked, and how long everything may take to be right.
const (
	glance    = 200 * time.Millisecond
	settling  = 10 * time.Minute
	answering = 3 * time.Second
)

// Metrics of an agent.
const (
	metricsURL     = "http://127.0.0.1:10249/metrics"
	metricRules    = "serviceproxy_rules"
	metricRepairs  = "serviceproxy_drift_repairs_total"
	metricLastSync = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
)

// settle ends what is going on, and waits until everything is right.
func (w *World) settle(ctx context.Context) error {
	if err := w.heal(ctx); err != nil {
		return err
	}
	return w.until(ctx, func(ctx context.Context) error {
		return errors.Join(w.reviveOperator(ctx), w.agentsAreReady(ctx), w.servicesAnswer(ctx), w.kernelsHoldNoMore(ctx))
	})
}

// recovers waits until connections to the Service that does not change work everywhere, and the kernel holds as many rules
// as the agent believes.
func (w *World) recovers(ctx context.Context) error {
	return w.until(ctx, func(ctx context.Context) error {
		return errors.Join(w.steadyAnswers(ctx), w.kernelsHoldNoMore(ctx))
	})
}

// until looks time and again, and returns what is still wrong in the end.
func (w *World) until(ctx context.Context, look func(context.Context) error) error {
	wrong := errors.New("nothing was looked at")
	err := wait.PollUntilContextTimeout(ctx, glance, settling, true, func(ctx context.Context) (bool, error) {
		if now := look(ctx); now == nil || ctx.Err() == nil {
			wrong = now // and not that time was over
		}
		return wrong == nil, nil
	})
	if err != nil {
		return fmt.Errorf("after %s: %w", settling, wrong)
	}
	return nil
}

// agentsAreReady expects every agent to run what it was told.
func (w *World) agentsAreReady(ctx context.Context) error {
	for _, node := range w.nodes {
		select {
		case <-w.Setup.Agent(node).Done():
			return fmt.Errorf("the agent of node %s has ended", node)
		default:
		}
		var n v1alpha1.ServiceProxyNode
		if err := w.Cluster.Client().Get(ctx, client.ObjectKey{Name: node}, &n); err != nil {
			return err
		}
		if n.Status.ObservedGeneration != n.Generation || n.Status.Mode != w.mode || n.Spec.Mode != w.mode ||
			!meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Errorf("node %s is to be in mode %s, is told %s in generation %d, and says: %+v",
				node, w.mode, n.Spec.Mode, n.Generation, n.Status)
		}
	}
	return nil
}

// question is a connection that is to be opened, and who may answer; nobody where there are none.
type question struct {
	from             *cluster.Host
	who              string
	network, address string
	answers          []string
}

func (q *question) ask(ctx context.Context, port uint16) error {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	reply, err := q.from.AskFrom(ctx, q.network, q.address, port)
	switch {
	case len(q.answers) == 0 && err == nil:
		return fmt.Errorf("%s asks %s over %s, and %s answers; nobody should", q.who, q.address, q.network, reply.Pod)
	case len(q.answers) > 0 && err != nil:
		return fmt.Errorf("%s asks %s over %s, where %v should answer: %w", q.who, q.address, q.network, q.answers, err)
	case len(q.answers) > 0 && !slices.Contains(q.answers, reply.Pod):
		return fmt.Errorf("%s asks %s over %s, and %s answers instead of %v", q.who, q.address, q.network, reply.Pod, q.answers)
	}
	return nil
}

// servicesAnswer asks at every Service from everywhere, and where there were Services.
func (w *World) servicesAnswer(ctx context.Context) error {
	var all []question
	for _, node := range w.nodes {
		for _, s := range w.services {
			all = append(all, w.questions(s, node)...)
		}
		for number := range w.gone {
			s := service{number: number}
			all = append(all, question{w.clients[node].Host, "a pod on " + node, "tcp", at(s.clusterIP(), httpPort), nil})
		}
	}
	return errors.Join(w.askAll(ctx, all), w.steadyAnswers(ctx))
}

// questions are what clients on a node, and outside to that node, ask at a Service. Where a policy leaves nobody on the
// node, packets are dropped, and to wait for that would take long.
func (w *World) questions(s *service, node string) []question {
	here := func(pod string) bool { return w.pods[pod].Node.Name == node }
	anywhere := func(string) bool { return true }
	var all []question
	internal, external := anywhere, anywhere
	if s.internalLocal {
		internal = here
	}
	if s.externalLocal {
		external = here
	}
	everybody := s.backends(anywhere)
	if answers := s.backends(internal); len(answers) > 0 || len(everybody) == 0 {
		all = append(all, question{w.clients[node].Host, "a pod on " + node, "tcp", at(s.clusterIP(), httpPort), answers},
			question{w.Cluster.Node(node).Host, "node " + node, "tcp", at(s.clusterIP(), httpPort), answers})
		if len(answers) > 0 {
			all = append(all, question{w.clients[node].Host, "a pod on " + node, "udp", at(s.clusterIP(), dnsPort), answers})
		}
	}
	if answers := s.backends(external); s.exposed && (len(answers) > 0 || len(everybody) == 0) {
		address := at(w.Cluster.Node(node).IPv4.String(), int(s.nodePort()))
		all = append(all, question{w.Cluster.Outside(), "a client outside", "tcp", address, answers})
	}
	return all
}

// steadyAnswers asks at the Service that does not change.
func (w *World) steadyAnswers(ctx context.Context) error {
	steady := slices.DeleteFunc(w.podNames(), func(name string) bool { return !strings.HasPrefix(name, "steady") })
	var all []question
	for _, node := range w.nodes {
		n := w.Cluster.Node(node)
		all = append(all, question{w.clients[node].Host, "a pod on " + node, "tcp", at(steadyIP, httpPort), steady},
			question{w.clients[node].Host, "a pod on " + node, "udp", at(steadyIP, dnsPort), steady},
			question{n.Host, "node " + node, "tcp", at(steadyIP, httpPort), steady},
			question{w.Cluster.Outside(), "a client outside", "tcp", at(n.IPv4.String(), steadyNodePort), steady})
	}
	return w.askAll(ctx, all)
}

// The ports from which is asked. No other connection of the same client has one of them, since in mode IPVS two from one port
// to the same pod through different Services are mistaken for each other (docs/behaviour.md).
const (
	firstPort = 12000
	ports     = 18000
)

// askAll asks everything, some at a time.
func (w *World) askAll(ctx context.Context, all []question) error {
	errs := make([]error, len(all))
	slots := make(chan struct{}, 8)
	var group sync.WaitGroup
	for i := range all {
		slots <- struct{}{}
		w.asked++
		port := uint16(firstPort + w.asked%ports)
		group.Go(func() {
			errs[i] = all[i].ask(ctx, port)
			<-slots
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// kernelsHoldNoMore expects the kernels to hold as many rules as their agents believe, none of Services that are gone, and
// everything of others.
func (w *World) kernelsHoldNoMore(ctx context.Context) error {
	var errs []error
	for _, node := range w.nodes {
		errs = append(errs, w.kernelHoldsNoMore(ctx, node))
	}
	return errors.Join(errs...)
}

func (w *World) kernelHoldsNoMore(ctx context.Context, node string) error {
	// The lists of a kernel are not read while somebody else writes them.
	metrics, err := churn.Scrape(ctx, w.Cluster.Node(node).Host, metricsURL)
	if err != nil {
		return err
	}
	rules, err := w.output(ctx, node, strings.ReplaceAll("IPT-save -t nat; IPT-save -t filter; ip6TABLES-save -t nat; ip6TABLES-save -t filter",
		"ip6TABLES", "ip6tables-"+w.Backend(node)))
	if err != nil {
		return err
	}
	if n := strings.Count(rules, "\n-A SPROXY-"); w.mode == v1alpha1.ModeIPTables && float64(n) != metrics.Value(metricRules) {
		return fmt.Errorf("the kernel of node %s holds %d rules, and its agent believes %.0f", node, n, metrics.Value(metricRules))
	}
	for number := range w.gone {
		if gone := "default/" + (&service{number: number}).name(); strings.Contains(rules, gone) {
			return fmt.Errorf("the kernel of node %s still has rules of Service %s", node, gone)
		}
	}
	if err := w.virtualServersOfNobody(ctx, node); err != nil {
		return err
	}
	others, err := w.output(ctx, node, planted)
	if err == nil && others != w.foreign[node] {
		return fmt.Errorf("what others have on node %s was\n%s\nand is\n%s", node, w.foreign[node], others)
	}
	return err
}

// untouched waits until every agent has compared everything with its kernel, and expects it to have found no difference.
func (w *World) untouched(ctx context.Context) error {
	for _, node := range w.nodes {
		host := w.Cluster.Node(node).Host
		before, err := churn.Scrape(ctx, host, metricsURL)
		if err != nil {
			return err
		}
		const fullInterval = 10 * time.Second
		start := float64(time.Now().Add(fullInterval + time.Second).Unix())
		err = w.until(ctx, func(ctx context.Context) error {
			now, err := churn.Scrape(ctx, host, metricsURL)
			if err != nil {
				return err
			}
			if now.Value(metricRepairs) != before.Value(metricRepairs) {
				return fmt.Errorf("the agent of node %s had to repair what nobody had touched", node)
			}
			if now.Value(metricLastSync) < start {
				return fmt.Errorf("the agent of node %s has not compared everything", node)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
