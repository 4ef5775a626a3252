package iptables_test

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// What it costs to look for changes by others at 10,000 Services: at a glance, in full, and in the chain that was heard of.
func BenchmarkChangedLegacy(b *testing.B) { benchmarkCheck(b, xtables.Legacy, false) }
func BenchmarkCompareLegacy(b *testing.B) { benchmarkCheck(b, xtables.Legacy, true) }
func BenchmarkCompareNFT(b *testing.B)    { benchmarkCheck(b, xtables.NFT, true) }
func BenchmarkCompareChainNFT(b *testing.B) {
	benchmarkCheck(b, xtables.NFT, true, xtables.Place{Table: "nat", Chain: "SPROXY-SERVICES"})
}

// BenchmarkRepairChainNFT puts a chain right that somebody has emptied.
func BenchmarkRepairChainNFT(b *testing.B) {
	RegisterTestingT(b)
	inNamespace(xtables.NFT, func(k *kernel) {
		engine := tenThousand(b)
		for b.Loop() {
			k.run("iptables", "-t", "nat", "-F", "SPROXY-SERVICES")
			repaired, err := engine.Verify(b.Context(), xtables.Place{Table: "nat", Chain: "SPROXY-SERVICES"})
			Expect(err).NotTo(HaveOccurred())
			Expect(repaired.Chains).To(Equal(1))
		}
	})
}

func benchmarkCheck(b *testing.B, backend xtables.Backend, full bool, only ...xtables.Place) {
	RegisterTestingT(b)
	inNamespace(backend, func(*kernel) {
		engine := tenThousand(b)
		for b.Loop() {
			if full {
				Expect(engine.Compare(b.Context(), only...)).To(BeEmpty())
			} else {
				Expect(engine.Changed(b.Context())).To(BeFalse())
			}
		}
	})
}

// tenThousand is an engine that has programmed 10,000 Services.
func tenThousand(b *testing.B) *iptables.Engine {
	w := withServices(10_000)
	engine := iptables.New(probe(b.Context()), w.settings)
	_, err := engine.Apply(b.Context(), w.all())
	Expect(err).NotTo(HaveOccurred())
	return engine
}

// withServices is a world of Services with two endpoints each.
func withServices(n int) *world {
	w := newWorld(scenario.Defaults())
	for i := range n {
		w.set(fmt.Sprintf("svc%d 172.30.%d.%d 80 -> 10.180.%d.%d 10.180.%d.%d", i, i>>8, i&255, i>>8, i&255, 128+i>>8, i&255))
	}
	return w
}
