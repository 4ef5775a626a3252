package api

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// manifest is a ServiceProxyConfig named "trial" with these lines in its spec besides the mode and an empty selector,
// unless the lines say otherwise.
func manifest(name, spec string) string {
	for _, required := range []string{"nodeSelector: {}", "mode: iptables"} {
		field, _, _ := strings.Cut(required, " ")
		if !strings.Contains("\n"+spec, "\n"+field) {
			spec = required + "\n" + spec
		}
	}
	return "apiVersion: serviceproxy.io/v1alpha1\nkind: ServiceProxyConfig\nmetadata: {name: " + name + "}\nspec:\n  " +
		strings.ReplaceAll(spec, "\n", "\n  ") + "\n"
}

var _ = DescribeTable("a ServiceProxyConfig is refused, with words that name the field, when",
	func(ctx context.Context, spec string, words ...string) {
		_, err := server.KubectlApply(ctx, manifest("trial", spec))
		Expect(err).To(HaveOccurred(), "the API server accepts it")
		for _, word := range words {
			Expect(err.Error()).To(ContainSubstring(word))
		}
	},
	Entry("the mode does not exist", `mode: nftables`, "spec.mode", `"nftables"`, `"iptables"`),
	Entry("the mode is in other letters", `mode: Iptables`, "spec.mode", `"iptables"`),
	Entry("the mode is empty", `mode: ""`, "spec.mode"),
	Entry("the selector has an operator that does not exist",
		`nodeSelector: {matchExpressions: [{key: role, operator: Is, values: [edge]}]}`,
		"spec.nodeSelector.matchExpressions[0].operator", `"In", "NotIn", "Exists", "DoesNotExist"`),
	Entry("a key of the selector is no label key",
		`nodeSelector: {matchLabels: {"not a key": edge}}`, "spec.nodeSelector.matchLabels", "each key must be a label key"),
	Entry("a value of the selector is no label value",
		`nodeSelector: {matchLabels: {role: "not a value"}}`, "spec.nodeSelector.matchLabels.role"),
	Entry("a key of an expression is no label key",
		`nodeSelector: {matchExpressions: [{key: "a/b/c", operator: Exists}]}`,
		"spec.nodeSelector.matchExpressions[0].key", "key must be a label key"),
	Entry("a value of an expression is no label value",
		`nodeSelector: {matchExpressions: [{key: role, operator: In, values: ["-"]}]}`,
		"spec.nodeSelector.matchExpressions[0].values[0]"),
	Entry("the selector has In without values",
		`nodeSelector: {matchExpressions: [{key: role, operator: In}]}`,
		"spec.nodeSelector.matchExpressions", "values are required with In"),
	Entry("the selector has Exists with values",
		`nodeSelector: {matchExpressions: [{key: role, operator: Exists, values: [edge]}]}`,
		"spec.nodeSelector.matchExpressions", "have no meaning with Exists"),
	Entry("the selector is not an object", `nodeSelector: all`, "spec.nodeSelector"),
	Entry("the priority is below 0", `priority: -1`, "spec.priority", "greater than or equal to 0"),
	Entry("the priority is above 1000", `priority: 1001`, "spec.priority", "less than or equal to 1000"),
	Entry("the priority is not a whole number", `priority: 1.5`, "spec.priority"),
	Entry("a field does not exist", `priorty: 1`, `unknown field "spec.priorty"`),
	Entry("masquerade is empty", `masquerade: {}`, "spec.masquerade", "at least 1"),
	Entry("the masquerade policy does not exist", `masquerade: {policy: Never}`, "spec.masquerade.policy", `"Auto", "All"`),
	Entry("the mark bit is below 0", `masquerade: {bit: -1}`, "spec.masquerade.bit"),
	Entry("the mark bit is above 31", `masquerade: {bit: 32}`, "spec.masquerade.bit", "less than or equal to 31"),
	Entry("the detection of local traffic does not exist",
		`masquerade: {localTraffic: {detect: Magic}}`, "spec.masquerade.localTraffic.detect"),
	Entry("the detection of local traffic is not said",
		`masquerade: {localTraffic: {interface: cni0}}`, "spec.masquerade.localTraffic.detect"),
	Entry("the cluster CIDRs are missing",
		`masquerade: {localTraffic: {detect: ClusterCIDR}}`,
		"spec.masquerade.localTraffic.clusterCIDRs", "clusterCIDRs is required with detect: ClusterCIDR"),
	Entry("cluster CIDRs stand beside another detection",
		`masquerade: {localTraffic: {detect: NodePodCIDR, clusterCIDRs: [10.0.0.0/8]}}`,
		"spec.masquerade.localTraffic.clusterCIDRs", "has no meaning otherwise"),
	Entry("a cluster CIDR is none",
		`masquerade: {localTraffic: {detect: ClusterCIDR, clusterCIDRs: [10.0.0.0]}}`,
		"spec.masquerade.localTraffic.clusterCIDRs", "must be a CIDR"),
	Entry("a cluster CIDR is there twice",
		`masquerade: {localTraffic: {detect: ClusterCIDR, clusterCIDRs: [10.0.0.0/8, 10.0.0.0/8]}}`,
		"spec.masquerade.localTraffic.clusterCIDRs", "Duplicate value"),
	Entry("the bridge is missing",
		`masquerade: {localTraffic: {detect: BridgeInterface}}`,
		"spec.masquerade.localTraffic.interface", "interface is required with detect: BridgeInterface"),
	Entry("the interface prefix is missing",
		`masquerade: {localTraffic: {detect: InterfaceNamePrefix}}`, "spec.masquerade.localTraffic.interface"),
	Entry("an interface stands beside another detection",
		`masquerade: {localTraffic: {detect: NodePodCIDR, interface: cni0}}`,
		"spec.masquerade.localTraffic.interface", "has no meaning otherwise"),
	Entry("the name of the interface is too long",
		`masquerade: {localTraffic: {detect: BridgeInterface, interface: sixteen-letters-}}`,
		"spec.masquerade.localTraffic.interface", "may not be more than 15"),
	Entry("the name of the interface could be an option",
		`masquerade: {localTraffic: {detect: BridgeInterface, interface: "a b"}}`,
		"spec.masquerade.localTraffic.interface", "should match"),
	Entry("a node port address is no network",
		`nodePorts: {addresses: [192.168.0.1]}`, "spec.nodePorts.addresses", "must be a CIDR"),
	Entry("Primary stands beside a network",
		`nodePorts: {addresses: [Primary, 192.168.0.0/16]}`, "spec.nodePorts.addresses", "Primary stands alone"),
	Entry("the list of node port addresses is empty",
		`nodePorts: {addresses: []}`, "spec.nodePorts.addresses", "at least 1"),
	Entry("there are too many node port addresses",
		`nodePorts: {addresses: [`+strings.Repeat("10.0.0.0/8, ", 17)+`]}`, "spec.nodePorts.addresses", "at most 16"),
	Entry("the shortest time between syncs is below 0",
		`sync: {minIntervalMilliseconds: -1}`, "spec.sync.minIntervalMilliseconds"),
	Entry("the shortest time between syncs is above a minute",
		`sync: {minIntervalMilliseconds: 60001}`, "spec.sync.minIntervalMilliseconds", "60000"),
	Entry("the time between full comparisons is too short",
		`sync: {fullIntervalSeconds: 9}`, "spec.sync.fullIntervalSeconds", "greater than or equal to 10"),
	Entry("the time between full comparisons is too long",
		`sync: {fullIntervalSeconds: 86401}`, "spec.sync.fullIntervalSeconds", "86400"),
	Entry("a number is too big for its type",
		`sync: {fullIntervalSeconds: 3000000000}`, "spec.sync.fullIntervalSeconds"),
	Entry("the shortest time between syncs is longer than that between full comparisons",
		`sync: {minIntervalMilliseconds: 10001, fullIntervalSeconds: 10}`,
		"spec.sync.minIntervalMilliseconds", "must not be longer than fullIntervalSeconds"),
)

var _ = DescribeTable("a ServiceProxyConfig is accepted when",
	func(ctx context.Context, spec string) {
		_, err := server.KubectlApply(ctx, manifest("trial", spec))
		Expect(err).NotTo(HaveOccurred())
		kubectl(ctx, "delete", "serviceproxyconfig", "trial")
	},
	Entry("it selects every node and says no more than the mode", ``),
	Entry("it selects nodes in every way",
		`nodeSelector: {matchLabels: {a: b}, matchExpressions: [`+
			`{key: c, operator: In, values: [d]}, {key: e, operator: NotIn, values: [f, g]}, `+
			`{key: h, operator: Exists}, {key: i, operator: DoesNotExist, values: []}]}`),
	Entry("all numbers are at their lower ends",
		"priority: 0\nmasquerade: {bit: 0}\nsync: {minIntervalMilliseconds: 0, fullIntervalSeconds: 10}"),
	Entry("all numbers are at their upper ends",
		"priority: 1000\nmasquerade: {bit: 31}\nsync: {minIntervalMilliseconds: 60000, fullIntervalSeconds: 86400}"),
	Entry("both times of syncs are the same", `sync: {minIntervalMilliseconds: 10000, fullIntervalSeconds: 10}`),
	Entry("local traffic is told by the pod CIDR", `masquerade: {policy: All, localTraffic: {detect: NodePodCIDR}}`),
	Entry("local traffic is told by cluster CIDRs",
		`masquerade: {localTraffic: {detect: ClusterCIDR, clusterCIDRs: [10.0.0.0/8, "fd00::/8"]}}`),
	Entry("local traffic is told by a bridge",
		`masquerade: {policy: Auto, localTraffic: {detect: BridgeInterface, interface: cni0}}`),
	Entry("local traffic is told by a prefix",
		`masquerade: {localTraffic: {detect: InterfaceNamePrefix, interface: veth}}`),
	Entry("node ports are open on the primary addresses", `nodePorts: {addresses: [Primary]}`),
	Entry("node ports are open on networks of both families",
		`nodePorts: {addresses: [192.168.0.0/16, "fd77::/64", "::/0"]}`),
)

var _ = Describe("the name of a ServiceProxyConfig", func() {
	It("has at most 63 characters, as a label value", func(ctx context.Context) {
		name := strings.Repeat("n", 64)
		_, err := server.KubectlApply(ctx, manifest(name, ""))
		Expect(err).To(MatchError(ContainSubstring("metadata.name")))
		Expect(err).To(MatchError(ContainSubstring("must not be longer than 63 characters")))
		_, err = server.KubectlApply(ctx, manifest(name[:63], ""))
		Expect(err).NotTo(HaveOccurred())
		kubectl(ctx, "delete", "serviceproxyconfig", name[:63])
	})
})

var _ = Describe("a required field", func() {
	DescribeTable("is asked for",
		func(ctx context.Context, spec, field string) {
			_, err := server.KubectlApply(ctx, "apiVersion: serviceproxy.io/v1alpha1\nkind: ServiceProxyConfig\n"+
				"metadata: {name: trial}\n"+spec)
			Expect(err).To(MatchError(ContainSubstring(field)))
			Expect(err).To(MatchError(ContainSubstring("Required value")))
		},
		Entry(nil, `spec: {mode: iptables}`, "spec.nodeSelector"),
		Entry(nil, `spec: {nodeSelector: {}}`, "spec.mode"),
		Entry(nil, ``, "spec"),
	)
})
