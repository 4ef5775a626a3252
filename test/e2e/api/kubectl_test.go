package api

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

const assignment = `
apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyNode
metadata:
  name: node-a
  labels: {serviceproxy.io/config: default}
spec:
  configRef: {name: default, generation: 1}
  revision: default-0123456789
  mode: iptables
`

var _ = Describe("kubectl", Ordered, func() {
	BeforeAll(func(ctx context.Context) {
		_, err := server.KubectlApply(ctx, manifest("default", "priority: 10"))
		Expect(err).NotTo(HaveOccurred())
		_, err = server.KubectlApply(ctx, assignment)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) {
			kubectl(ctx, "delete", "spc,spn", "--all")
		})
	})

	It("shows that nobody has looked yet", func(ctx context.Context) {
		const observed = "--output=jsonpath={.status.observedGeneration}"
		Expect(kubectl(ctx, "get", "spc", "default", observed)).To(Equal("-1"))
		Expect(kubectl(ctx, "get", "spn", "node-a", observed)).To(Equal("-1"))
	})

	It("shows what every pool and every node runs", func(ctx context.Context) {
		kubectl(ctx, "patch", "spc", "default", "--subresource=status", "--type=merge", `--patch={"status": {
			"observedGeneration": 1, "nodes": {"assigned": 7, "updated": 6, "ready": 5},
			"conditions": [{"type": "Ready", "status": "False", "reason": "RollingOut", "message": "5 of 7 nodes",
				"lastTransitionTime": "2026-01-01T00:00:00Z"}]}}`)
		kubectl(ctx, "patch", "spn", "node-a", "--subresource=status", "--type=merge", `--patch={"status": {
			"observedGeneration": 1, "mode": "iptables", "appliedRevision": "default-0123456789",
			"capabilities": {"iptablesBackend": "nft"},
			"sync": {"services": 31, "endpoints": 41, "rules": 59, "lastSyncTime": "2026-01-01T00:00:00Z"},
			"conditions": [{"type": "Ready", "status": "True", "reason": "Synced", "message": "",
				"lastTransitionTime": "2026-01-01T00:00:00Z"}]}}`)

		Expect(table(kubectl(ctx, "get", "spc"))).To(HaveExactElements(
			HaveExactElements("NAME", "MODE", "PRIORITY", "NODES", "UPDATED", "IN-SYNC", "READY", "REASON", "AGE"),
			HaveExactElements("default", "iptables", "10", "7", "6", "5", "False", "RollingOut", Not(BeEmpty())),
		))
		Expect(table(kubectl(ctx, "get", "spn"))).To(HaveExactElements(
			HaveExactElements("NAME", "CONFIG", "MODE", "READY", "REASON", "SERVICES", "ENDPOINTS", "LAST-SYNC", "AGE"),
			HaveExactElements("node-a", "default", "iptables", "True", "Synced", "31", "41", Not(BeEmpty()), Not(BeEmpty())),
		))
		Expect(table(kubectl(ctx, "get", "spn", "--output=wide"))[1]).To(ContainElements(
			"default-0123456789", "nft", "59"))
	})

	It("waits for a config", func(ctx context.Context) {
		kubectl(ctx, "patch", "spc", "default", "--subresource=status", "--type=merge", `--patch={"status": {
			"conditions": [{"type": "Ready", "status": "True", "reason": "AllNodesReady", "message": "",
				"lastTransitionTime": "2026-01-01T00:00:00Z"}]}}`)
		kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=5s", "spc/default")
	})

	It("selects nodes by their config", func(ctx context.Context) {
		Expect(kubectl(ctx, "get", "spn", "--field-selector=spec.configRef.name=default", "--output=name")).
			To(Equal("serviceproxynode.serviceproxy.io/node-a\n"))
		Expect(kubectl(ctx, "get", "spn", "--field-selector=spec.configRef.name=other", "--output=name")).To(BeEmpty())
	})

	It("explains the fields", func(ctx context.Context) {
		Expect(kubectl(ctx, "explain", "spc.spec.priority")).To(ContainSubstring("decides between several configs"))
	})
})

// table splits what kubectl prints into rows and columns.
func table(text string) [][]string {
	var rows [][]string
	for line := range strings.Lines(text) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}
