package explain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/explain"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
)

// healthy is a Service with two pods on two of two nodes that all work.
func healthy() *explain.View {
	v := &explain.View{
		Service: service("web"), OperatorNamespace: "service-proxy-system",
		Agents: map[string]*corev1.Pod{}, Answers: map[string]explain.Answer{}, Configs: []v1alpha1.ServiceProxyConfig{{ObjectMeta: metav1.ObjectMeta{Name: "default"}}},
		Slices: []discoveryv1.EndpointSlice{{AddressType: discoveryv1.AddressTypeIPv4,
			Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}}}},
	}
	for name, ip := range map[string]string{"one": "10.0.0.1", "two": "10.0.0.2"} {
		v.Nodes = append(v.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		v.ProxyNodes = append(v.ProxyNodes, v1alpha1.ServiceProxyNode{ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: v1alpha1.ServiceProxyNodeStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue}}}})
		v.Agents[name] = new(pod("agent-"+name, name, "", nil))
		v.Pods = append(v.Pods, pod("web-"+name, name, ip, map[string]string{"app": "web"}))
		v.Slices[0].Endpoints = append(v.Slices[0].Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: new(name)})
	}
	return v
}

func service(name string) corev1.Service {
	return corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.Unix(1000, 0)},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("web")}},
		},
	}
}

func pod(name, node, ip string, labels map[string]string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main",
			Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func answer(s query.Service) explain.Answer { return explain.Answer{Service: s} }

// unready makes every pod and endpoint not Ready.
func unready(v *explain.View) {
	for i := range v.Pods {
		v.Pods[i].Status.Conditions[0].Status = corev1.ConditionFalse
		v.Slices[0].Endpoints[i].Conditions.Ready = new(false)
	}
}

// programmed sets the condition of a node.
func programmed(v *explain.View, i int, c metav1.Condition) {
	c.Type = v1alpha1.ConditionProgrammed
	v.ProxyNodes[i].Status.Conditions = []metav1.Condition{c}
}

func TestExplain(t *testing.T) {
	tests := map[string]struct {
		change func(*explain.View)
		// want are the causes with whom they hurt, and say is in the message of the first.
		want []string
		say  string
	}{
		"all is well": {func(*explain.View) {}, nil, ""},
		"an alias": {func(v *explain.View) {
			v.Service.Spec.Type, v.Service.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		}, []string{"ExternalName Nobody"}, "an alias of example.com"},
		"headless": {func(v *explain.View) { v.Service.Spec.ClusterIP = corev1.ClusterIPNone }, []string{"Headless Perhaps"}, "target ports"},
		"headless and not ready": {func(v *explain.View) { v.Service.Spec.ClusterIP = corev1.ClusterIPNone; unready(v) },
			[]string{"NotReady Nobody", "Headless Perhaps"}, "2 of 2 pods are not Ready"},
		"of another proxy": {func(v *explain.View) {
			v.Service.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "mesh"}
		}, []string{"OtherProxy Nobody"}, "service-proxy-name=mesh hands it to another proxy"},
		"a typing error in the selector": {func(v *explain.View) {
			v.Service.Spec.Selector["app"], v.Slices[0].Endpoints = "webb", nil
			v.Pods = append([]corev1.Pod{pod("other", "one", "10.0.0.3", map[string]string{"app": "another"})}, v.Pods...)
		},
			[]string{"NothingSelected Nobody"}, "comes nearest, with app=web"},
		"all pods have ended": {func(v *explain.View) {
			v.Pods, v.Slices = v.Pods[:1], nil
			v.Pods[0].Status.Phase = corev1.PodFailed
		}, []string{"NothingSelected Nobody"}, "but it has ended"},
		"nothing by hand": {func(v *explain.View) { v.Service.Spec.Selector, v.Slices = nil, nil }, []string{"NoSelector Nobody"}, "made by hand"},
		"by hand":         {func(v *explain.View) { v.Service.Spec.Selector, v.Pods = nil, nil }, nil, ""},
		"by hand with another name": {func(v *explain.View) { v.Service.Spec.Selector, v.Slices[0].Ports[0].Name = nil, new("") },
			[]string{"NoSuchPort Nobody"}, `named "http" of protocol TCP, which port http (80) wants; they have "" 8080/TCP`},
		"a probe that fails": {func(v *explain.View) {
			unready(v)
			for i := range v.Pods {
				v.Pods[i].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
			}
		}, []string{"NotReady Nobody"}, "container main runs, but its readiness probe does not succeed"},
		"one that crashes, while the other works": {func(v *explain.View) {
			v.Pods[0].Status.Conditions[0].Status, v.Slices[0].Endpoints[0].Conditions.Ready = corev1.ConditionFalse, new(false)
			v.Pods[0].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s"}}}}
		}, []string{"NotReady Perhaps"}, "1 of 2 pods are not Ready and get no connections: web-"},
		"no room": {func(v *explain.View) {
			unready(v)
			for i := range v.Pods {
				v.Pods[i].Spec.NodeName = ""
				v.Pods[i].Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/2 nodes are available"}}
			}
		}, []string{"NotReady Nobody"}, "it is on no node: 0/2 nodes are available"},
		"a readiness gate": {func(v *explain.View) {
			unready(v)
			v.Pods = v.Pods[:1]
			v.Pods[0].Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/in-service"}}
		}, []string{"NotReady Nobody"}, "nobody has set condition example.com/in-service"},
		"pods that end still serve": {func(v *explain.View) {
			unready(v)
			for i := range v.Pods {
				v.Pods[i].DeletionTimestamp = new(metav1.Now())
				c := &v.Slices[0].Endpoints[i].Conditions
				c.Serving, c.Terminating = new(true), new(true)
			}
		}, []string{"NotReady Perhaps"}, "it is ending"},
		"nobody makes slices": {func(v *explain.View) { v.Slices = nil }, []string{"NoSlices Nobody"}, "the controller that makes them does not run"},
		"slices are behind": {func(v *explain.View) { v.Slices[0].Endpoints = v.Slices[0].Endpoints[:1] }, []string{"NoSlices Some"},
			"is Ready and in no EndpointSlice"},
		"a port by a name that no container has": {func(v *explain.View) {
			v.Service.Spec.Ports[0].TargetPort, v.Slices[0].Ports = intstr.FromString("htpp"), nil
		}, []string{"NoSuchPort Nobody"}, `port http (80) leads to target port "htpp", and no container of its pods has a TCP port of that name; they have web=8080/TCP`},
		"one of two ports": {func(v *explain.View) {
			v.Service.Spec.Ports = append(v.Service.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns")})
		}, []string{"NoSuchPort Some"}, "no container of its pods has a UDP port of that name"},
		"a number that nobody declares": {func(v *explain.View) { v.Service.Spec.Ports[0].TargetPort = intstr.FromInt32(8081) },
			[]string{"UndeclaredPort Perhaps"}, "sends connections to port 8081 of the pods, and no container declares that; they declare web=8080/TCP"},
		"a family without endpoints": {func(v *explain.View) {
			v.Service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		},
			[]string{"NoFamily Some"}, "a cluster IP of IPv6, and no endpoint"},
		"no local endpoint inside": {func(v *explain.View) {
			v.Service.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
			v.Nodes = append(v.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "zzz"}})
		}, []string{"NoLocalEndpoint Some", "OtherNodes Perhaps"}, "endpoints are on one, two; there is none on zzz"},
		"no local endpoint outside": {func(v *explain.View) {
			v.Service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			v.Nodes = append(v.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "zzz"}})
		}, []string{"NoLocalEndpoint Perhaps", "OtherNodes Perhaps"}, "nodes without one drop them"},
		"for some sources": {func(v *explain.View) {
			v.Service.Spec.Type, v.Service.Spec.LoadBalancerSourceRanges = corev1.ServiceTypeLoadBalancer, []string{"203.0.113.0/24"}
			v.Service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}}
		}, []string{"SourceRanges Perhaps"}, "lets only 203.0.113.0/24 connect"},
		"no load balancer": {func(v *explain.View) {
			v.Service.Spec.Type, v.Service.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, new("example.com/lb")
		}, []string{"AddressPending Some"}, "the controller of class example.com/lb does"},
		"an older one has the address": {func(v *explain.View) {
			other := service("old")
			other.CreationTimestamp = metav1.NewTime(v.Service.CreationTimestamp.Add(-time.Minute))
			v.Service.Spec.ExternalIPs, other.Spec.ExternalIPs = []string{"192.0.2.9"}, []string{"192.0.2.9"}
			v.Others = []corev1.Service{other}
		}, []string{"AddressDisputed Some"}, "Service shop/old claims 192.0.2.9:80/tcp too, and has it"},
		"a younger one wants the address": {func(v *explain.View) {
			other := service("young")
			other.CreationTimestamp = metav1.NewTime(v.Service.CreationTimestamp.Add(time.Minute))
			v.Service.Spec.ExternalIPs, other.Spec.ExternalIPs = []string{"2001:db8::9"}, []string{"2001:db8::9"}
			v.Others = []corev1.Service{other}
		}, []string{"AddressDisputed Perhaps"}, "claims [2001:db8::9]:80/tcp too; this one is older"},
		"no config": {func(v *explain.View) { v.Configs, v.ProxyNodes = nil, nil }, []string{"NoConfig Nobody"}, "there is no ServiceProxyConfig"},
		"no node":   {func(v *explain.View) { v.ProxyNodes = nil }, []string{"NoConfig Nobody"}, "no ServiceProxyConfig has a node"},
		"a node fails": {func(v *explain.View) {
			programmed(v, 0, metav1.Condition{Status: metav1.ConditionFalse, Reason: "ApplyFailed", Message: "no room"})
		}, []string{"NodesBehind Some"}, "Programmed is False, ApplyFailed: no room"},
		"all nodes fail, and no pod is there": {func(v *explain.View) {
			v.Service.Spec.Selector["app"] = "none"
			for i := range v.ProxyNodes {
				programmed(v, i, metav1.Condition{Status: metav1.ConditionFalse, Reason: "ApplyFailed", Message: "no room"})
			}
		}, []string{"NothingSelected Nobody", "NodesBehind Nobody"}, "matches no running pod"},
		"an agent is gone": {func(v *explain.View) { delete(v.Agents, "one") }, []string{"NodesBehind Some"}, "one: no agent is on it"},
		"an agent is not ready": {func(v *explain.View) { v.Agents["one"].Status.Conditions[0].Status = corev1.ConditionFalse },
			[]string{"NodesBehind Some"}, "one: its agent, pod agent-one, is not Ready"},
		"an agent that was asked has it": {func(v *explain.View) { v.Answers["one"] = answer(query.Service{Known: true, Programmed: true}) }, nil, ""},
		"an agent that was asked has it not": {func(v *explain.View) { v.Answers["one"] = answer(query.Service{Known: true}) },
			[]string{"NodesBehind Some"}, "the Service is not in the kernel yet"},
		"an agent that was asked does not know it": {func(v *explain.View) { v.Answers["one"] = answer(query.Service{}) },
			[]string{"NodesBehind Some"}, "its agent does not know the Service yet"},
		"an agent that was asked leaves something out": {func(v *explain.View) {
			v.Answers["one"] = answer(query.Service{Known: true, Programmed: true, Node: query.Node{Mode: "IPVS"}, LeftOut: []string{"affinity"}})
		}, []string{"NodesBehind Some"}, "mode IPVS leaves out: affinity"},
		"an agent that was asked is silent": {func(v *explain.View) { v.Answers["one"] = explain.Answer{Err: errors.New("no such file")} },
			[]string{"NodesBehind Some"}, "its agent does not answer: no such file"},
		"an agent has not looked": {func(v *explain.View) { v.ProxyNodes[0].Generation = 2 }, []string{"NodesBehind Some"}, "has not taken up"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := healthy()
			test.change(v)
			e := explain.Explain(v)
			var got []string
			well := true
			for _, f := range e.Findings {
				got = append(got, string(f.Cause)+" "+string(f.Effect))
				well = well && f.Effect == explain.Perhaps
				if len(f.Next) == 0 {
					t.Errorf("%s says nothing to do next", f.Cause)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Fatalf("causes (-want +got):\n%s", diff)
			}
			if e.Well != well || e.Service != "shop/web" {
				t.Errorf("got well %t of %s, want %t", e.Well, e.Service, well)
			}
			if len(got) > 0 && !strings.Contains(e.Findings[0].Message, test.say) {
				t.Errorf("got %q, want it to contain %q", e.Findings[0].Message, test.say)
			}
		})
	}
}
