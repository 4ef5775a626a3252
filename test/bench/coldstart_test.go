package bench

import (
	"testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// manyServices is the size at which starts are measured.
func manyServices() *plan {
	return newPlan(shape{services: 10_000, endpoints: 2}, serviceRange, endpointRange)
}

// BenchmarkColdStart measures the first write to an empty kernel: deciding, rendering, and all rules of 10,000 Services.
func BenchmarkColdStart(b *testing.B) {
	backends(b, func(b *testing.B, backend xtables.Backend) {
		p := manyServices()
		var bytes, chains, rules int
		for b.Loop() {
			b.StopTimer()
			n := newNode(b, newHost(b), backend, p)
			b.StartTimer()
			written := n.apply(b, n.engine, n.everything())
			bytes, chains, rules = written.Bytes, written.Chains, n.engine.Rules()
		}
		reportStart(b, p, bytes)
		report(b, "chains", float64(chains))
		report(b, "rules", float64(rules))
	})
}

// BenchmarkAdopt measures a restart: a new engine finds the rules of 10,000 Services in the kernel, all of them right.
func BenchmarkAdopt(b *testing.B) {
	backends(b, func(b *testing.B, backend xtables.Backend) {
		n := filled(b, newHost(b), backend, manyServices())
		bytes := 0
		for b.Loop() {
			n.table = forwarding.NewTable()
			restarted := iptables.New(n.tools, n.settings)
			bytes = n.apply(b, restarted, n.everything()).Bytes
		}
		if bytes != 0 {
			b.Errorf("a restart wrote %d bytes over rules that were right", bytes)
		}
		reportStart(b, n.plan, bytes)
	})
}

func reportStart(b *testing.B, p *plan, bytes int) {
	perOp := b.Elapsed().Seconds() / float64(b.N)
	report(b, "s/op", perOp)
	report(b, "us/Service", perOp*1e6/float64(p.services))
	report(b, "bytes/op", float64(bytes))
}
