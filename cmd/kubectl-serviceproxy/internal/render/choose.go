package render

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
	"github.com/serviceproxy/service-proxy-operator/dataplane/render"
)

// config is the config that a node gets when every rollout is over, by the code with which the operator decides; nil where
// none selects it. The claims say why.
func (o *objects) config(node *corev1.Node) (*v1alpha1.ServiceProxyConfig, []planner.Claim) {
	e, _ := planner.Explain(planner.World{
		Configs: o.configs,
		Nodes:   []planner.Node{{Name: node.Name, UID: node.UID, Labels: node.Labels, Created: node.CreationTimestamp, Ready: true}},
	}, node.Name)
	for i := range o.configs {
		if o.configs[i].Name == e.Config {
			return &o.configs[i], e.Claims
		}
	}
	return nil, e.Claims
}

// rules renders the rules of a node, by the config that it gets.
func (o *objects) rules(node *corev1.Node) (*render.Rendering, error) {
	config, claims := o.config(node)
	if config != nil {
		return render.Rules(&config.Spec.ProxySettings, o.seenFrom(node))
	}
	if len(claims) == 0 {
		return nil, fmt.Errorf("node %s gets no rules: there is no ServiceProxyConfig", node.Name)
	}
	var why []string
	for _, c := range claims {
		why = append(why, fmt.Sprintf("%s: %s", c.Config, c.Standing))
	}
	return nil, fmt.Errorf("node %s gets no rules: no ServiceProxyConfig has it (%s); look at spec.nodeSelector and the labels of the node",
		node.Name, strings.Join(why, ", "))
}
