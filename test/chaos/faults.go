package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// fault is something that happens to a cluster.
type fault struct {
	name   string
	weight int
	// possible says whether it can happen now; always where it is nil.
	possible func(w *World) bool
	// do makes it happen, and says to what.
	do func(ctx context.Context, w *World) (said string, err error)
	// excused says that new connections may fail until it is repaired, which is waited for: it takes away what they need.
	excused bool
}

// mostServices is how many Services there are at most besides the one that does not change.
const mostServices = 12

func faults() []fault {
	all := []fault{
		{name: "a Service is made or changed", weight: 20, possible: hasAPI, do: changeService},
		{name: "other endpoints", weight: 25, possible: hasService, do: changeEndpoints},
		{name: "endpoints flap", weight: 6, possible: hasService, do: flap},
		{name: "a Service is deleted", weight: 8, possible: hasService, do: deleteService},
		{name: "a pod dies", weight: 4, possible: hasAPI, do: killPod},
		{name: "a Service claims addresses of others", weight: 3, possible: hasAPI, do: fight},
		{name: "settings are changed", weight: 4, possible: hasAPI, do: changeSettings},
		{name: "the config is deleted and made again", weight: 1, possible: hasAPI, do: recreateConfig},
		{name: "a node gets or loses an address", weight: 3, do: changeAddress},
		{name: "an agent is asked to end", weight: 3, do: func(ctx context.Context, w *World) (string, error) {
			return w.restart(ctx, w.anyNode(), false)
		}},
		{name: "an agent is killed", weight: 4, do: func(ctx context.Context, w *World) (string, error) {
			return w.restart(ctx, w.anyNode(), true)
		}},
		{name: "an agent is killed while it has much to write", weight: 2, possible: hasService, do: killWriting},
		{name: "an agent is killed, and its memory is spoilt", weight: 2, do: spoilMemory},
		{name: "the operator is killed", weight: 2, possible: hasAPI, do: killOperator},
		{name: "a node is cut off from the API server", weight: 3, do: cutOff},
		{name: "the API server is stopped", weight: 1, possible: func(w *World) bool { return !w.Joined && w.hasAPI() }, do: stopAPI},
		{name: "the API server flaps", weight: 1, possible: func(w *World) bool { return !w.Joined && w.hasAPI() }, do: flapAPI},
	}
	return append(all, drifts()...)
}

func hasAPI(w *World) bool     { return w.hasAPI() }
func hasService(w *World) bool { return w.hasAPI() && len(w.services) > 0 }

func (w *World) hasAPI() bool { return !w.apiStopped }

// anyService is a Service that is drawn.
func (w *World) anyService() *service {
	var numbers []int
	for number := range w.services {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return w.services[numbers[w.rand.IntN(len(numbers))]]
}

func changeService(ctx context.Context, w *World) (string, error) {
	number := w.rand.IntN(mostServices)
	s, there := w.services[number]
	if !there {
		s = &service{number: number}
		s.drawEndpoints(w.rand, w.podNames())
	}
	s.draw(w.rand)
	if there {
		return s.String(), w.Cluster.Client().Update(ctx, s.object())
	}
	if err := w.Cluster.Client().Create(ctx, s.object()); err != nil {
		return s.String(), err
	}
	w.services[number] = s
	delete(w.gone, number)
	return s.String(), w.Cluster.Client().Create(ctx, s.slice(w.where))
}

func changeEndpoints(ctx context.Context, w *World) (string, error) {
	s := w.anyService()
	s.drawEndpoints(w.rand, w.podNames())
	return s.String(), w.Cluster.Client().Update(ctx, s.slice(w.where))
}

func flap(ctx context.Context, w *World) (string, error) {
	s := w.anyService()
	const times = 10
	for range times {
		s.drawEndpoints(w.rand, w.podNames())
		if err := w.Cluster.Client().Update(ctx, s.slice(w.where)); err != nil {
			return s.String(), err
		}
	}
	return s.String(), nil
}

func deleteService(ctx context.Context, w *World) (string, error) {
	s := w.anyService()
	delete(w.services, s.number)
	w.gone[s.number] = true
	if err := w.Cluster.Client().Delete(ctx, s.object()); err != nil {
		return s.name(), err
	}
	return s.name(), client.IgnoreNotFound(w.Cluster.Client().Delete(ctx, s.slice(w.where)))
}

// killPod replaces a pod that may die by one of the same name.
func killPod(ctx context.Context, w *World) (string, error) {
	names := slices.DeleteFunc(w.podNames(), func(name string) bool { return name[:6] != "mortal" })
	name := names[w.rand.IntN(len(names))]
	pod := w.pods[name]
	if err := pod.Delete(ctx); err != nil {
		return name, err
	}
	if err := traffic.Forget(ctx, w.Cluster, pod); err != nil {
		return name, err
	}
	again, err := w.Cluster.RunPod(ctx, podSpec(name, pod.Node.Name))
	if err != nil {
		return name, err
	}
	w.pods[name] = again
	for number := range mostServices {
		s := w.services[number]
		if s == nil {
			continue
		}
		if _, leads := s.endpoints[name]; leads {
			if err := w.Cluster.Client().Update(ctx, s.slice(w.where)); err != nil {
				return name, err
			}
		}
	}
	return name, nil
}

// fight makes or deletes a Service that claims addresses that others have: those of an older Service and of nodes.
func fight(ctx context.Context, w *World) (string, error) {
	name := fmt.Sprintf("hostile-%d", w.rand.IntN(3))
	object := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec: corev1.ServiceSpec{
			ExternalIPs: []string{steadyIP, "198.51.100.1"},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: httpPort}, {Name: "node-port", Port: steadyNodePort},
				{Name: "dns", Port: dnsPort, Protocol: corev1.ProtocolUDP},
			},
		},
	}
	if node := w.anyNode(); !w.SwitchesModes {
		// In mode IPVS every other node would take the address of this one for its own, as with kube-proxy.
		object.Spec.ExternalIPs = append(object.Spec.ExternalIPs, w.Cluster.Node(node).IPv4.String())
	}
	if w.hostile[name] {
		delete(w.hostile, name)
		return name + " goes", w.Cluster.Client().Delete(ctx, object)
	}
	w.hostile[name] = true
	return name + " comes", w.Cluster.Client().Create(ctx, object)
}

func changeSettings(ctx context.Context, w *World) (string, error) {
	patches := []string{
		`{"spec":{"masquerade":{"policy":"All"}}}`,
		`{"spec":{"masquerade":null}}`,
		`{"spec":{"masquerade":{"bit":12}}}`,
		`{"spec":{"nodePorts":{"addresses":["Primary"]}}}`,
		`{"spec":{"nodePorts":null}}`,
		`{"spec":{"sync":{"minIntervalMilliseconds":200}}}`,
		`{"spec":{"sync":{"minIntervalMilliseconds":null}}}`,
		`{"spec":{"conntrack":{"tcpBeLiberal":"Enabled"}}}`,
		`{"spec":{"conntrack":null}}`,
	}
	if w.SwitchesModes {
		patches = append(patches, `{"spec":{"mode":"iptables"}}`, `{"spec":{"mode":"IPVS"}}`, `{"spec":{"mode":"iptables"}}`, `{"spec":{"mode":"IPVS"}}`)
	}
	patch := patches[w.rand.IntN(len(patches))]
	for _, mode := range []v1alpha1.Mode{v1alpha1.ModeIPTables, v1alpha1.ModeIPVS} {
		if patch == fmt.Sprintf(`{"spec":{"mode":%q}}`, mode) {
			w.mode = mode
		}
	}
	return patch, w.patch(ctx, patch)
}

// recreateConfig leaves nodes without a config for a moment: they keep what they have.
func recreateConfig(ctx context.Context, w *World) (string, error) {
	var object v1alpha1.ServiceProxyConfig
	if err := w.Cluster.Client().Get(ctx, client.ObjectKey{Name: config}, &object); err != nil {
		return "", err
	}
	if err := w.Cluster.Client().Delete(ctx, &object); err != nil {
		return "", err
	}
	again := v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: config}, Spec: object.Spec}
	return "", w.Cluster.Client().Create(ctx, &again)
}

// restart ends an agent and starts it again.
func (w *World) restart(ctx context.Context, node string, kill bool) (string, error) {
	agent := w.Setup.Agent(node)
	if kill {
		agent.Kill()
	} else {
		if err := agent.Signal(syscall.SIGTERM); err != nil {
			return node, err
		}
		// One that has only just been started knows no signals yet, and ends with an error.
		select {
		case <-agent.Done():
		case <-time.After(time.Minute):
			return node, fmt.Errorf("the agent of node %s has not ended a minute after SIGTERM", node)
		case <-ctx.Done():
			return node, ctx.Err()
		}
	}
	return node, w.Setup.StartAgent(ctx, w.Cluster.Node(node))
}

// killWriting changes every Service and kills an agent a moment later.
func killWriting(ctx context.Context, w *World) (string, error) {
	for number := range mostServices {
		s := w.services[number]
		if s == nil {
			continue
		}
		s.drawEndpoints(w.rand, w.podNames())
		if err := w.Cluster.Client().Update(ctx, s.slice(w.where)); err != nil {
			return s.String(), err
		}
	}
	pause := time.Duration(w.rand.IntN(40)) * time.Millisecond
	select {
	case <-time.After(pause):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	node, err := w.restart(ctx, w.anyNode(), true)
	return fmt.Sprintf("%s, after %s", node, pause), err
}

// spoilMemory damages what an agent keeps on disk while it is down.
func spoilMemory(ctx context.Context, w *World) (string, error) {
	node := w.Cluster.Node(w.anyNode())
	files, err := node.Dir()
	if err != nil {
		return node.Name, err
	}
	w.Setup.Agent(node.Name).Kill()
	name := []string{"settings.json", "table", "apiservers.json"}[w.rand.IntN(3)]
	path := filepath.Join(files, "service-proxy", name)
	how := []string{"removed", "emptied", "cut off", "overwritten"}[w.rand.IntN(4)]
	text, err := os.ReadFile(path)
	if err == nil {
		switch how {
		case "removed":
			err = os.Remove(path)
		case "emptied":
			err = os.WriteFile(path, nil, 0o600)
		case "cut off":
			err = os.WriteFile(path, text[:len(text)/2], 0o600)
		case "overwritten":
			err = os.WriteFile(path, []byte(`{"version":1,"sha256":"none","content":{"good":null}}`), 0o600)
		}
	} else if os.IsNotExist(err) {
		how, err = "not there", nil
	}
	if err != nil {
		return node.Name, err
	}
	return fmt.Sprintf("%s: %s %s", node.Name, name, how), w.Setup.StartAgent(ctx, node)
}

func killOperator(ctx context.Context, w *World) (string, error) {
	w.Setup.Operator().Kill()
	return "", w.Setup.StartOperator(ctx)
}

// reviveOperator starts an operator again that has ended, as one does that finds no API server when it starts: a kubelet
// would.
func (w *World) reviveOperator(ctx context.Context) error {
	select {
	case <-w.Setup.Operator().Done():
		return w.Setup.StartOperator(ctx)
	default:
		return nil
	}
}

// cutOff takes the way to the API server from a node, or gives it back.
func cutOff(ctx context.Context, w *World) (string, error) {
	node := w.anyNode()
	if w.cut[node] {
		return node + " is let back", w.letBack(ctx, node)
	}
	w.cut[node] = true
	_, err := w.Cluster.Node(node).Run(ctx, "ip", "route", "add", "blackhole", w.apiAddress+"/32")
	return node, err
}

func (w *World) letBack(ctx context.Context, node string) error {
	delete(w.cut, node)
	_, err := w.Cluster.Node(node).Run(ctx, "ip", "route", "del", "blackhole", w.apiAddress+"/32")
	return err
}

func stopAPI(ctx context.Context, w *World) (string, error) {
	w.apiStopped = true
	return w.stopAPIServer(ctx), ctx.Err()
}

// stopAPIServer returns how it went: an API server that does not end in time on a slow machine is killed, and is gone too.
func (w *World) stopAPIServer(ctx context.Context) string {
	if err := w.Cluster.StopAPIServer(ctx); err != nil {
		return err.Error()
	}
	return "it ended"
}

func flapAPI(ctx context.Context, w *World) (string, error) {
	const times = 2
	for range times {
		w.stopAPIServer(ctx)
		if err := w.Cluster.StartAPIServer(ctx); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d times", times), nil
}

// changeAddress gives a node an address, or takes it away again.
func changeAddress(ctx context.Context, w *World) (string, error) {
	node, address := w.anyNode(), "198.18.0.1/32"
	verb := "add"
	if w.extra[node] {
		verb = "del"
	}
	w.extra[node] = !w.extra[node]
	_, err := w.Cluster.Node(node).Run(ctx, "ip", "address", verb, address, "dev", "lo")
	return fmt.Sprintf("%s: %s %s", node, verb, address), err
}

// heal ends what is not to last until everything is looked at.
func (w *World) heal(ctx context.Context) error {
	for _, node := range w.nodes {
		if w.cut[node] {
			if err := w.letBack(ctx, node); err != nil {
				return err
			}
		}
	}
	if w.apiStopped {
		w.apiStopped = false
		return w.Cluster.StartAPIServer(ctx)
	}
	return nil
}
