package explain

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// nodes finds those that do not forward what they should.
func (v *View) nodes() []Finding {
	ours := map[string]bool{}
	var behind, names []string
	for i := range v.ProxyNodes {
		node := &v.ProxyNodes[i]
		if node.Spec.Action == v1alpha1.ActionRelease {
			continue
		}
		ours[node.Name] = true
		if problem := v.behind(node); problem != "" {
			names = append(names, node.Name)
			behind = append(behind, fmt.Sprintf("%s: %s", node.Name, problem))
		}
	}
	var others []string
	for i := range v.Nodes {
		if !ours[v.Nodes[i].Name] {
			others = append(others, v.Nodes[i].Name)
		}
	}
	slices.Sort(others)
	switch {
	case len(ours) == 0 && len(v.Configs) == 0:
		return []Finding{{NoConfig, Nobody, "there is no ServiceProxyConfig, so no node is programmed; if Services work, another proxy does it",
			[]string{"kubectl serviceproxy status", "kubectl apply -f CONFIG.yaml"}}}
	case len(ours) == 0:
		return []Finding{{NoConfig, Nobody, "no ServiceProxyConfig has a node, so none is programmed; if Services work, another proxy does it",
			[]string{"kubectl serviceproxy status", "kubectl get spc"}}}
	}
	var findings []Finding
	if len(behind) > 0 {
		effect := Some
		if len(behind) == len(ours) {
			effect = Nobody
		}
		findings = append(findings, Finding{NodesBehind, effect, fmt.Sprintf("%d of %d nodes may not hold what is asked for now: %s",
			len(behind), len(ours), few(behind, "; ")), []string{"kubectl serviceproxy why " + names[0],
			fmt.Sprintf("kubectl -n %s get pods --field-selector spec.nodeName=%s", v.OperatorNamespace, names[0])}})
	}
	if len(others) > 0 {
		findings = append(findings, Finding{OtherNodes, Perhaps, fmt.Sprintf("no ServiceProxyConfig has %s: whether the Service works there is up to another proxy",
			few(others, ", ")), []string{"kubectl serviceproxy why " + others[0]}})
	}
	return findings
}

// behind says why the kernel of a node may not hold what Services and EndpointSlices say; empty if it does.
func (v *View) behind(node *v1alpha1.ServiceProxyNode) string {
	agent, exists := v.Agents[node.Name]
	if !exists {
		return "no agent is on it, so nothing changes there any more"
	}
	if problem := unreadiness(agent); problem != "" {
		return fmt.Sprintf("its agent, pod %s, is not Ready: %s", agent.Name, problem)
	}
	programmed := meta.FindStatusCondition(node.Status.Conditions, v1alpha1.ConditionProgrammed)
	switch {
	case programmed == nil || node.Status.ObservedGeneration != node.Generation:
		return "its agent has not taken up what it was given"
	case programmed.Status != metav1.ConditionTrue:
		return saying(programmed)
	}
	for _, doubt := range []string{v1alpha1.ConditionHeldBack, v1alpha1.ConditionDrifted} {
		if c := meta.FindStatusCondition(node.Status.Conditions, doubt); c != nil && c.Status == metav1.ConditionTrue {
			return saying(c)
		}
	}
	if i := slices.IndexFunc(v.Nodes, func(n corev1.Node) bool { return n.Name == node.Name }); i >= 0 {
		for _, c := range v.Nodes[i].Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				return strings.TrimSuffix("the Node is not Ready: "+c.Message, ": ")
			}
		}
	}
	return v.unprogrammed(node.Name)
}

func saying(c *metav1.Condition) string {
	return fmt.Sprintf("%s is %s, %s: %s", c.Type, c.Status, c.Reason, c.Message)
}
