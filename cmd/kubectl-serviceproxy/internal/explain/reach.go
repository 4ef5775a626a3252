package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// addresses finds those that the Service has not got: its load balancer's, and those that another Service holds.
func (v *View) addresses() []Finding {
	var findings []Finding
	spec := &v.Service.Spec
	if spec.Type == corev1.ServiceTypeLoadBalancer && len(v.Service.Status.LoadBalancer.Ingress) == 0 {
		who := "the cloud controller of the cluster"
		if class := spec.LoadBalancerClass; class != nil {
			who = "the controller of class " + *class
		}
		findings = append(findings, Finding{AddressPending, Some, fmt.Sprintf("nobody has given it the address of a load balancer, which %s does; its other "+
			"addresses are not concerned", who), []string{v.kubectl("describe service")}})
	}
	for i := range v.Others {
		other := &v.Others[i]
		shared := v.shared(other)
		if len(shared) == 0 {
			continue
		}
		name := other.Namespace + "/" + other.Name
		if before(&v.Service, other) {
			findings = append(findings, Finding{AddressDisputed, Perhaps, fmt.Sprintf("Service %s claims %s too; this one is older and has it, unless a node "+
				"knew the other one first", name, strings.Join(shared, ", ")), []string{"kubectl serviceproxy trace outside " + hostPort(shared[0]) + " --node NODE"}})
			continue
		}
		findings = append(findings, Finding{AddressDisputed, Some, fmt.Sprintf("Service %s claims %s too, and has it: it is older, and an address goes to one "+
			"Service only", name, strings.Join(shared, ", ")), []string{fmt.Sprintf("kubectl -n %s get service %s -o yaml", other.Namespace, other.Name), v.kubectl("edit service")}})
	}
	return findings
}

// shared are the addresses and ports outside the cluster that two Services claim.
func (v *View) shared(other *corev1.Service) []string {
	if _, foreign := other.Labels[labelServiceProxyName]; foreign {
		return nil
	}
	theirs := claims(other)
	return slices.DeleteFunc(claims(&v.Service), func(c string) bool { return !slices.Contains(theirs, c) })
}

// claims are the addresses outside the cluster that a Service wants to be reached at.
func claims(svc *corev1.Service) []string {
	ips := slices.Clone(svc.Spec.ExternalIPs)
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if ingress.IP != "" {
			ips = append(ips, ingress.IP)
		}
	}
	slices.Sort(ips)
	var texts []string
	for _, ip := range slices.Compact(ips) {
		if strings.Contains(ip, ":") {
			ip = "[" + ip + "]"
		}
		for _, port := range svc.Spec.Ports {
			texts = append(texts, fmt.Sprintf("%s:%d/%s", ip, port.Port, strings.ToLower(string(port.Protocol))))
		}
	}
	return texts
}

func hostPort(claim string) string {
	text, _, _ := strings.Cut(claim, "/")
	return text
}

// before says whether a Service has an address that another one claims too, as agents decide it on a fresh start.
func before(a, b *corev1.Service) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name)) < 0
}

// policies finds what keeps clients out because the Service asks for it.
func (v *View) policies() []Finding {
	spec := &v.Service.Spec
	var findings []Finding
	on, without := v.spread()
	if len(on) > 0 && len(without) > 0 {
		where := fmt.Sprintf("endpoints are on %s; there is none on %s", few(on, ", "), few(without, ", "))
		next := []string{fmt.Sprintf("kubectl -n %s get pods -o wide", v.Service.Namespace), v.kubectl("edit service")}
		if valueOr(spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster) == corev1.ServiceInternalTrafficPolicyLocal {
			findings = append(findings, Finding{NoLocalEndpoint, Some, "internalTrafficPolicy Local keeps clients in the cluster to endpoints on their own " +
				"node, and connections to nodes without one are dropped: " + where, next})
		}
		if spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
			findings = append(findings, Finding{NoLocalEndpoint, Perhaps, "externalTrafficPolicy Local has every node serve clients from outside by its own " +
				"endpoints only, and nodes without one drop them; a load balancer finds out by the health check node port: " + where, next})
		}
	}
	if len(spec.LoadBalancerSourceRanges) > 0 && spec.Type == corev1.ServiceTypeLoadBalancer {
		findings = append(findings, Finding{SourceRanges, Perhaps, fmt.Sprintf("loadBalancerSourceRanges lets only %s connect to the address of its load "+
			"balancer; everybody else is dropped", few(spec.LoadBalancerSourceRanges, ", ")), []string{v.kubectl("edit service")}})
	}
	return findings
}

// spread is on which nodes usable endpoints are, and on which there are none.
func (v *View) spread() (on, without []string) {
	have := map[string]bool{}
	for _, e := range v.usable() {
		have[valueOr(e.NodeName, "")] = true
	}
	for i := range v.Nodes {
		if name := v.Nodes[i].Name; have[name] {
			on = append(on, name)
		} else {
			without = append(without, name)
		}
	}
	slices.Sort(on)
	slices.Sort(without)
	return on, without
}
