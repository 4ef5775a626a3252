// Package explain says why a Service does not work: it looks for the causes that people know, in the order in which a packet
// would meet them, on what the API server says now.
package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// View is everything that an explanation is made of.
type View struct {
	Service corev1.Service
	// Slices are the EndpointSlices of the Service.
	Slices []discoveryv1.EndpointSlice
	// Pods are those of the namespace of the Service, selected or not.
	Pods []corev1.Pod
	// Others are all other Services of the cluster.
	Others     []corev1.Service
	Nodes      []corev1.Node
	ProxyNodes []v1alpha1.ServiceProxyNode
	Configs    []v1alpha1.ServiceProxyConfig
	// Agents are the Pods of agents, by the names of their nodes; OperatorNamespace is where they are.
	Agents            map[string]*corev1.Pod
	OperatorNamespace string
	// Answers are those of the agents that were asked, by the names of their nodes.
	Answers map[string]Answer
}

// Cause names why a Service does not work. The names are stable.
type Cause string

// The causes.
const (
	// ExternalName: the Service is an alias in DNS, and no proxy has anything to do with it.
	ExternalName Cause = "ExternalName"
	// Headless: the name of the Service stands for the addresses of its pods, and no proxy has anything to do with it.
	Headless Cause = "Headless"
	// OtherProxy: a label hands the Service to another proxy.
	OtherProxy Cause = "OtherProxy"
	// NoSelector: nobody makes EndpointSlices of a Service that has no selector, and nobody made one by hand.
	NoSelector Cause = "NoSelector"
	// NothingSelected: the selector matches no pod.
	NothingSelected Cause = "NothingSelected"
	// NotReady: pods that the selector matches are not Ready.
	NotReady Cause = "NotReady"
	// NoSlices: EndpointSlices do not have the pods that are Ready, so the controller that makes them does not work.
	NoSlices Cause = "NoSlices"
	// NoSuchPort: no endpoint has a port of the Service.
	NoSuchPort Cause = "NoSuchPort"
	// UndeclaredPort: no container declares the number that connections are sent to, so it may be wrong.
	UndeclaredPort Cause = "UndeclaredPort"
	// NoFamily: the Service has a cluster IP of a family in which no endpoint has an address.
	NoFamily Cause = "NoFamily"
	// NoLocalEndpoint: a traffic policy keeps clients to endpoints on a node that has none.
	NoLocalEndpoint Cause = "NoLocalEndpoint"
	// SourceRanges: only some networks may connect to the address of the load balancer.
	SourceRanges Cause = "SourceRanges"
	// AddressPending: nobody has given the Service the address of a load balancer.
	AddressPending Cause = "AddressPending"
	// AddressDisputed: an older Service claims the same address and port.
	AddressDisputed Cause = "AddressDisputed"
	// NoConfig: no node is programmed, because no ServiceProxyConfig has one.
	NoConfig Cause = "NoConfig"
	// NodesBehind: nodes do not hold what Services and EndpointSlices say, or nobody is there to see to it.
	NodesBehind Cause = "NodesBehind"
	// OtherNodes: some nodes are programmed by somebody else, or by nobody.
	OtherNodes Cause = "OtherNodes"
)

// Effect is whom a cause hurts.
type Effect string

// The effects, the worst first.
const (
	// Nobody gets through.
	Nobody Effect = "Nobody"
	// Some clients, or clients of some ports or addresses, do not get through.
	Some Effect = "Some"
	// Perhaps says that this is how it was asked for, and may be the cause nevertheless.
	Perhaps Effect = "Perhaps"
)

func (e Effect) rank() int { return slices.Index([]Effect{Nobody, Some, Perhaps}, e) }

// Finding is a cause, what is known of it, and the commands that help, the first one first.
type Finding struct {
	Cause   Cause    `json:"cause"`
	Effect  Effect   `json:"effect"`
	Message string   `json:"message"`
	Next    []string `json:"next"`
}

// Explanation says why a Service does not work. Its JSON form is stable: fields may be added, and none is renamed or removed.
type Explanation struct {
	Service string `json:"service"`
	// Well is whether no cause was found that keeps somebody from the Service for certain.
	Well bool `json:"well"`
	// Findings are the causes, the true one first: of those that hurt the most, the one that a packet would meet last, because
	// without endpoints everything else matters little.
	Findings []Finding `json:"findings"`
}

// Explain finds the causes.
func Explain(v *View) Explanation {
	e := Explanation{Service: v.Service.Namespace + "/" + v.Service.Name, Findings: find(v)}
	slices.SortStableFunc(e.Findings, func(a, b Finding) int { return cmp.Compare(a.Effect.rank(), b.Effect.rank()) })
	e.Well = !slices.ContainsFunc(e.Findings, func(f Finding) bool { return f.Effect != Perhaps })
	return e
}

func find(v *View) []Finding {
	findings, ours := v.ownership()
	if !ours {
		return findings
	}
	findings = append(findings, v.endpoints()...)
	if v.Service.Spec.ClusterIP == corev1.ClusterIPNone {
		return findings
	}
	findings = append(findings, v.addresses()...)
	findings = append(findings, v.policies()...)
	return append(findings, v.nodes()...)
}

// ownership finds out whether a proxy has anything to do with the Service, and whether its endpoints matter.
func (v *View) ownership() (findings []Finding, ours bool) {
	spec := &v.Service.Spec
	proxy, foreign := v.Service.Labels[labelServiceProxyName]
	switch {
	case spec.Type == corev1.ServiceTypeExternalName:
		return []Finding{{ExternalName, Nobody, fmt.Sprintf("it is of type ExternalName: its name is an alias of %s in DNS, it has no address "+
			"and no ports, and no proxy has anything to do with it", spec.ExternalName), []string{"nslookup " + spec.ExternalName, v.kubectl("edit service")}}}, false
	case foreign:
		return []Finding{{OtherProxy, Nobody, fmt.Sprintf("label %s=%s hands it to another proxy, so this one leaves it alone", labelServiceProxyName, proxy),
			[]string{v.kubectl("label service") + " " + labelServiceProxyName + "-"}}}, false
	case spec.ClusterIP == corev1.ClusterIPNone:
		return []Finding{{Headless, Perhaps, "it is headless: its name stands for the addresses of its pods, clients connect to these at the target " +
			"ports, and no proxy has anything to do with it", []string{v.listSlices()}}}, true
	}
	return nil, true
}

// labelServiceProxyName on a Service hands it to another proxy (KEP-2447).
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// kubectl is a command of kubectl about the Service.
func (v *View) kubectl(command string) string {
	return fmt.Sprintf("kubectl -n %s %s %s", v.Service.Namespace, command, v.Service.Name)
}

// listSlices is the command that lists the EndpointSlices of the Service.
func (v *View) listSlices() string {
	return fmt.Sprintf("kubectl -n %s get endpointslices -l %s=%s", v.Service.Namespace, discoveryv1.LabelServiceName, v.Service.Name)
}

// few lists some of many texts.
func few(texts []string, separator string) string {
	const most = 5
	if len(texts) <= most {
		return strings.Join(texts, separator)
	}
	return fmt.Sprintf("%s%sand %d more", strings.Join(texts[:most], separator), separator, len(texts)-most)
}
