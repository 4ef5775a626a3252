package explain

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
)

// endpoints finds why there are none, or none for a port or a family.
func (v *View) endpoints() []Finding {
	usable := v.usable()
	if len(v.Service.Spec.Selector) == 0 {
		if len(usable) == 0 {
			return []Finding{{NoSelector, Nobody, "it has no selector, so its EndpointSlices are made by hand or by a controller of its own, and " +
				"none has an endpoint that is ready", []string{v.listSlices()}}}
		}
		return v.ports(nil)
	}
	selected := v.selected()
	if len(selected) == 0 {
		return []Finding{v.nothingSelected()}
	}
	var ready []*corev1.Pod
	var unready []string
	for _, pod := range selected {
		if problem := unreadiness(pod); problem != "" {
			unready = append(unready, fmt.Sprintf("%s: %s", pod.Name, problem))
		} else {
			ready = append(ready, pod)
		}
	}
	var findings []Finding
	switch missing := v.missing(ready); {
	case len(ready) == 0 && len(usable) == 0:
		return []Finding{v.notReady(Nobody, unready, len(selected))}
	case len(missing) > 0 && len(usable) == 0:
		return []Finding{v.noSlices(Nobody, missing)}
	case len(missing) > 0:
		findings = append(findings, v.noSlices(Some, missing))
	case len(unready) > 0:
		findings = append(findings, v.notReady(Perhaps, unready, len(selected)))
	}
	findings = append(findings, v.ports(selected)...)
	return append(findings, v.families()...)
}

// endpoint is an address of a slice, and the slice.
type endpoint struct {
	*discoveryv1.Endpoint
	slice *discoveryv1.EndpointSlice
}

// usable are the endpoints that a proxy sends connections to: those that are ready, or while there are none those that still
// serve while they end (KEP-1669).
func (v *View) usable() []endpoint {
	var ready, ending []endpoint
	for i := range v.Slices {
		for j := range v.Slices[i].Endpoints {
			e := endpoint{&v.Slices[i].Endpoints[j], &v.Slices[i]}
			c := e.Conditions
			switch {
			case c.Ready == nil || *c.Ready:
				ready = append(ready, e)
			case c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating:
				ending = append(ending, e)
			}
		}
	}
	if len(ready) == 0 {
		return ending
	}
	return ready
}

func (v *View) selected() []*corev1.Pod {
	selector := labels.SelectorFromSet(v.Service.Spec.Selector)
	var pods []*corev1.Pod
	for i := range v.Pods {
		phase := v.Pods[i].Status.Phase
		if selector.Matches(labels.Set(v.Pods[i].Labels)) && phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			pods = append(pods, &v.Pods[i])
		}
	}
	return pods
}

// nothingSelected tells which pod was probably meant.
func (v *View) nothingSelected() Finding {
	selector := v.Service.Spec.Selector
	message := fmt.Sprintf("its selector %s matches no running pod of namespace %s", labels.FormatLabels(selector), v.Service.Namespace)
	var nearest *corev1.Pod
	best := 0
	for i := range v.Pods {
		if n := nearness(selector, v.Pods[i].Labels); n > best {
			nearest, best = &v.Pods[i], n
		}
	}
	if nearest != nil {
		has := map[string]string{}
		for key := range selector {
			if value, there := nearest.Labels[key]; there {
				has[key] = value
			}
		}
		message += fmt.Sprintf("; pod %s comes nearest, with %s", nearest.Name, labels.FormatLabels(has))
		if phase := nearest.Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
			message += ", but it has ended"
		}
	}
	return Finding{NothingSelected, Nobody, message, []string{
		fmt.Sprintf("kubectl -n %s get pods --show-labels", v.Service.Namespace), v.kubectl("edit service")}}
}

// nearness is how near labels come to a selector: a value that is right counts more than all that are written nearly so, and
// such a one more than all others of the same keys.
func nearness(selector, has map[string]string) int {
	n, step := 0, len(selector)+1
	for key, wanted := range selector {
		value, there := has[key]
		_, similar := access.Nearest(wanted, []string{value})
		switch {
		case !there:
		case value == wanted:
			n += step * step
		case similar:
			n += step
		default:
			n++
		}
	}
	return n
}

func (v *View) notReady(effect Effect, unready []string, of int) Finding {
	first, _, _ := strings.Cut(unready[0], ":")
	return Finding{NotReady, effect, fmt.Sprintf("%d of %d pods are not Ready and get no connections: %s", len(unready), of, few(unready, "; ")),
		[]string{fmt.Sprintf("kubectl -n %s describe pod %s", v.Service.Namespace, first), fmt.Sprintf("kubectl -n %s logs %s", v.Service.Namespace, first)}}
}

// unreadiness says why a pod is not Ready; empty if it is.
func unreadiness(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "it is ending"
	}
	conditions := map[corev1.PodConditionType]corev1.PodCondition{}
	for _, c := range pod.Status.Conditions {
		conditions[c.Type] = c
	}
	if conditions[corev1.PodReady].Status == corev1.ConditionTrue {
		return ""
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range statuses {
			if waiting := s.State.Waiting; waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing" {
				return strings.TrimSuffix(fmt.Sprintf("container %s waits, %s: %s", s.Name, waiting.Reason, waiting.Message), ": ")
			}
		}
	}
	if scheduled := conditions[corev1.PodScheduled]; pod.Spec.NodeName == "" {
		return strings.TrimSuffix("it is on no node: "+scheduled.Message, ": ")
	}
	for _, gate := range pod.Spec.ReadinessGates {
		if conditions[gate.ConditionType].Status != corev1.ConditionTrue {
			return fmt.Sprintf("nobody has set condition %s, which is one of its readiness gates", gate.ConditionType)
		}
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running != nil && !s.Ready {
			return fmt.Sprintf("container %s runs, but its readiness probe does not succeed", s.Name)
		}
	}
	if c := conditions[corev1.PodReady]; c.Message != "" {
		return c.Message
	} else if c.Reason != "" {
		return "its condition Ready is False, " + c.Reason
	}
	return fmt.Sprintf("its condition Ready is not True, in phase %s", pod.Status.Phase)
}

// missing are the pods that no EndpointSlice has.
func (v *View) missing(ready []*corev1.Pod) []string {
	var names []string
	for _, pod := range ready {
		if !slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return v.hasAddress(ip.IP) }) {
			names = append(names, pod.Name)
		}
	}
	return names
}

func (v *View) hasAddress(ip string) bool {
	for i := range v.Slices {
		for j := range v.Slices[i].Endpoints {
			if slices.Contains(v.Slices[i].Endpoints[j].Addresses, ip) {
				return true
			}
		}
	}
	return false
}

func (v *View) noSlices(effect Effect, missing []string) Finding {
	message := fmt.Sprintf("%s %s Ready and in no EndpointSlice: ", few(missing, ", "), isOrAre(len(missing)))
	if len(v.Slices) == 0 {
		message += "the Service has none, so the controller that makes them does not run or may not write"
	} else {
		message += "the controller that makes them is behind or does not run"
	}
	return Finding{NoSlices, effect, message, []string{
		v.listSlices(), "kubectl -n kube-system logs -l component=kube-controller-manager",
		"kubectl -n kube-system get lease kube-controller-manager"}}
}

// ports finds the ports of the Service that no usable endpoint has. Pods are those that the selector matches.
func (v *View) ports(pods []*corev1.Pod) []Finding {
	var findings []Finding
	usable := v.usable()
	if len(usable) == 0 {
		return nil
	}
	for i := range v.Service.Spec.Ports {
		port := &v.Service.Spec.Ports[i]
		served := slices.ContainsFunc(usable, func(e endpoint) bool { return hasPort(e.slice, port) })
		declared := declaredPorts(pods)
		switch {
		case served && pods != nil && len(declared) > 0 && port.TargetPort.Type == intstr.Int && !declares(pods, port):
			findings = append(findings, Finding{UndeclaredPort, Perhaps, fmt.Sprintf("%s sends connections to port %s of the pods, and no container "+
				"declares that; they declare %s", portName(port), port.TargetPort.String(), few(declared, ", ")), []string{v.kubectl("edit service")}})
		case served:
		case pods == nil:
			findings = append(findings, Finding{NoSuchPort, v.effect(), fmt.Sprintf("no EndpointSlice has a port named %q of protocol %s, which %s wants; "+
				"they have %s", port.Name, port.Protocol, portName(port), few(v.slicePorts(), ", ")),
				[]string{v.listSlices() + " -o yaml"}})
		default:
			findings = append(findings, Finding{NoSuchPort, v.effect(), fmt.Sprintf("%s leads to target port %q, and no container of its pods has a %s port "+
				"of that name; they have %s", portName(port), port.TargetPort.String(), port.Protocol, few(orNone(declared), ", ")),
				[]string{v.kubectl("edit service"), fmt.Sprintf("kubectl -n %s get pod %s -o yaml", v.Service.Namespace, pods[0].Name)}})
		}
	}
	return findings
}

// effect of losing one port.
func (v *View) effect() Effect {
	if len(v.Service.Spec.Ports) == 1 {
		return Nobody
	}
	return Some
}

func hasPort(slice *discoveryv1.EndpointSlice, port *corev1.ServicePort) bool {
	return slices.ContainsFunc(slice.Ports, func(p discoveryv1.EndpointPort) bool {
		return p.Port != nil && valueOr(p.Name, "") == port.Name && valueOr(p.Protocol, corev1.ProtocolTCP) == port.Protocol
	})
}

// declaredPorts are the ports of all containers of pods, as people write them.
func declaredPorts(pods []*corev1.Pod) []string {
	var texts []string
	for _, p := range containerPorts(pods) {
		texts = append(texts, strings.TrimPrefix(fmt.Sprintf("%s=%d/%s", p.Name, p.ContainerPort, p.Protocol), "="))
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

func declares(pods []*corev1.Pod, port *corev1.ServicePort) bool {
	return slices.ContainsFunc(containerPorts(pods), func(p corev1.ContainerPort) bool {
		return p.ContainerPort == port.TargetPort.IntVal && p.Protocol == port.Protocol
	})
}

func containerPorts(pods []*corev1.Pod) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, pod := range pods {
		for i := range pod.Spec.InitContainers {
			ports = append(ports, pod.Spec.InitContainers[i].Ports...)
		}
		for i := range pod.Spec.Containers {
			ports = append(ports, pod.Spec.Containers[i].Ports...)
		}
	}
	return ports
}

func (v *View) slicePorts() []string {
	var texts []string
	for i := range v.Slices {
		for _, p := range v.Slices[i].Ports {
			texts = append(texts, fmt.Sprintf("%q %d/%s", valueOr(p.Name, ""), valueOr(p.Port, 0), valueOr(p.Protocol, corev1.ProtocolTCP)))
		}
	}
	slices.Sort(texts)
	return orNone(slices.Compact(texts))
}

// families finds those that the Service has and its endpoints have not.
func (v *View) families() []Finding {
	usable := v.usable()
	var without []string
	for _, family := range v.Service.Spec.IPFamilies {
		if !slices.ContainsFunc(usable, func(e endpoint) bool { return string(e.slice.AddressType) == string(family) }) {
			without = append(without, string(family))
		}
	}
	if len(usable) == 0 || len(without) == 0 {
		return nil
	}
	return []Finding{{NoFamily, Some, fmt.Sprintf("it has a cluster IP of %s, and no endpoint has an address of that family", strings.Join(without, " and ")),
		[]string{v.listSlices()}}}
}

func portName(port *corev1.ServicePort) string {
	if port.Name == "" {
		return fmt.Sprintf("port %d", port.Port)
	}
	return fmt.Sprintf("port %s (%d)", port.Name, port.Port)
}

func isOrAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func orNone(texts []string) []string {
	if len(texts) == 0 {
		return []string{"none"}
	}
	return texts
}

func valueOr[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}
