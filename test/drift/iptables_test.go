package drift

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// damage is something that somebody does to a node, where IPT is iptables of the node's backend.
type damage struct {
	script string
	// keeps says that no packet is lost by it.
	keeps bool
}

var damages = map[string]damage{
	"a chain emptied":                       {script: "$IPT -t nat -F SPROXY-SERVICES"},
	"a rule deleted":                        {script: "$IPT -t nat -D SPROXY-SERVICES 2"},
	"a rule inserted into a chain of ours":  {script: "$IPT -t nat -I SPROXY-SERVICES -j RETURN"},
	"a rule replaced":                       {script: "$IPT -t nat -R SPROXY-SERVICES 2 -j RETURN"},
	"the jump deleted":                      {script: "$IPT -t nat -D PREROUTING -m comment --comment 'service proxy: Services' -j SPROXY-SERVICES"},
	"tables emptied as a firewall does":     {script: "for t in nat filter; do $IPT -t $t -F; $IPT -t $t -X; done"},
	"the masquerading of table nat emptied": {script: "$IPT -t nat -F POSTROUTING", keeps: true},
	"the chains of table filter emptied":    {script: "$IPT -t filter -F", keeps: true},
}

var _ = Describe("A node in mode iptables", func() {
	for _, backend := range backends {
		for name, d := range damages {
			It(fmt.Sprintf("[%s] recovers from %s", backend, name), func(ctx SpecContext) {
				before, counted := rules(ctx, backend), repairs(ctx, backend)
				Expect(asks(ctx, backend)).To(Succeed())
				run(ctx, backend, strings.ReplaceAll(d.script, "$IPT", "iptables-"+backend))
				took := recovery(ctx, backend, before)
				Expect(asks(ctx, backend)).To(Succeed())
				Eventually(func() int { return repairs(ctx, backend) }).Should(BeNumerically(">", counted))
				AddReportEntry(fmt.Sprintf("%s: %s", backend, name), fmt.Sprintf("%.2f s", took.Seconds()))
			}, SpecTimeout(3*time.Minute))
		}
	}
})

// recovery waits until the rules of a node are what they were, and returns how long that took.
func recovery(ctx context.Context, node, before string) time.Duration {
	GinkgoHelper()
	start := time.Now()
	Eventually(func() string { return rules(ctx, node) }).Should(Equal(before))
	return time.Since(start)
}
