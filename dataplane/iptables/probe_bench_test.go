package iptables_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// What it costs to find out what a node can do, with empty tables. A spec keeps count of the programs that it takes.
func BenchmarkProbeNFT(b *testing.B)    { benchmarkProbe(b, xtables.NFT) }
func BenchmarkProbeLegacy(b *testing.B) { benchmarkProbe(b, xtables.Legacy) }

func benchmarkProbe(b *testing.B, backend xtables.Backend) {
	RegisterTestingT(b)
	inNamespace(backend, func(*kernel) {
		probe(b.Context()) // makes the tables
		for b.Loop() {
			probe(b.Context())
		}
	})
}
