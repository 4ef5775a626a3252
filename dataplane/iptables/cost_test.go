package iptables_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// What is given to the kernel is the same on every machine. These specs fail when it grows by more than a fifth; a higher limit
// needs a reason that is worth it to every node of every cluster.
var _ = Describe("What is written", func() {
	onBothBackends("for a change of one endpoint does not grow, nor with the number of Services", func(ctx context.Context, k *kernel) {
		// Bytes, for a Service of one endpoint and for one of two: 2,360 and 1,648, and 672 and 506, when this was written.
		limits := map[xtables.Backend][2]int{xtables.NFT: {2_800, 1_950}, xtables.Legacy: {800, 600}}
		for _, services := range []int{10, 300} {
			inNamespace(k.backend, func(*kernel) {
				w := newWorld(scenario.Defaults())
				for _, line := range manyServices(services) {
					w.set(line)
				}
				w.set("one 172.30.8.1 80 -> 10.180.0.1")
				w.set("two 172.30.8.2 80 -> 10.180.0.1 10.180.1.1")
				engine := iptables.New(probe(ctx), w.settings)
				_, err := engine.Apply(ctx, w.all())
				Expect(err).NotTo(HaveOccurred())
				for i, line := range []string{"one 172.30.8.1 80 -> 10.180.0.2", "two 172.30.8.2 80 -> 10.180.0.2 10.180.1.1"} {
					written, err := engine.Apply(ctx, w.set(line))
					Expect(err).NotTo(HaveOccurred())
					Expect(written.Chains).To(Equal(2), "one of each family")
					Expect(written.Bytes).To(BeNumerically("<=", limits[k.backend][i]))
				}
			})
		}
	})

	onBothBackends("is nothing where the rules are there, which few programs are started for", func(ctx context.Context, k *kernel) {
		w := newWorld(scenario.Defaults())
		for _, line := range manyServices(50) {
			w.set(line)
		}
		tools := probe(ctx)
		_, err := iptables.New(tools, w.settings).Apply(ctx, w.all())
		Expect(err).NotTo(HaveOccurred())
		started := filepath.Join(GinkgoT().TempDir(), "started")
		inFrontOf(`echo "$0" >> `+started+`; exec "$real" "$@"`, "iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save")
		tools = probe(ctx)
		Expect(iptables.New(tools, w.settings).Apply(ctx, w.all())).To(BeZero())
		text, err := os.ReadFile(started)
		if k.backend == xtables.NFT {
			Expect(err).To(MatchError(os.ErrNotExist), string(text))
			return
		}
		Expect(err).NotTo(HaveOccurred())
		// The kubelet's hint, and each family once.
		Expect(strings.Fields(string(text))).To(HaveLen(3))
	})
})
