package bench

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// The ranges of benchmarks that send no packets.
var (
	serviceRange  = netip.MustParsePrefix("10.96.0.0/16")
	endpointRange = netip.MustParsePrefix("10.201.0.0/16")
)

func sizes() []int { return []int{100, 1_000, 10_000} }

// BenchmarkOneChange measures what it costs to follow one endpoint of one Service, by how many Services there are: from
// the new EndpointSlice, decoded, to the kernel having the rules.
func BenchmarkOneChange(b *testing.B) {
	backends(b, func(b *testing.B, backend xtables.Backend) {
		for _, services := range sizes() {
			b.Run(fmt.Sprint(services), func(b *testing.B) { oneChange(b, backend, services) })
		}
	})
}

func oneChange(b *testing.B, backend xtables.Backend, services int) {
	recorder, path := newRecorder(b, ourPrograms(backend)), os.Getenv("PATH")
	b.Setenv("PATH", recorder.path())
	recorded := filled(b, newHost(b), backend, newPlan(shape{services: services, endpoints: 2}, serviceRange, endpointRange))
	const repeat = 3
	var written xtables.Written
	recorder.start(b)
	for generation := range repeat {
		w := recorded.apply(b, recorded.engine, recorded.set(services/2, generation+1))
		written.Add(w)
	}
	total := recorder.stop(b)
	if total.processes != written.Programs {
		b.Errorf("the engine says it started %d programs; there were %d", written.Programs, total.processes)
	}
	if written.Programs > 0 && total.bytes != written.Bytes {
		b.Errorf("the engine says it wrote %d bytes, iptables-restore read %d", written.Bytes, total.bytes)
	}

	// And without the recorder, for the time.
	b.Setenv("PATH", path)
	n := filled(b, newHost(b), backend, recorded.plan)
	generation := 0
	b.ReportAllocs()
	for b.Loop() {
		generation++
		n.apply(b, n.engine, n.set(services/2, generation))
	}
	report(b, "ms/op", b.Elapsed().Seconds()*1e3/float64(b.N))
	report(b, "bytes/op", float64(written.Bytes)/repeat)
	report(b, "chains/op", float64(written.Chains)/repeat)
	report(b, "processes/op", float64(total.processes)/repeat)
	report(b, "syscalls/op", float64(total.syscalls)/repeat)
}

// ourPrograms are the programs of a backend that the engine calls, by the names that it calls them by.
func ourPrograms(backend xtables.Backend) map[string]string {
	programs := map[string]string{}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			name := fmt.Sprintf("%s-%s%s", family, backend, suffix)
			programs[name] = name
		}
	}
	return programs
}

// BenchmarkForwarding measures deciding alone, without rules: one endpoint of one Service changes among 10,000.
func BenchmarkForwarding(b *testing.B) {
	n := &node{
		plan:  newPlan(shape{services: 10_000, endpoints: 2}, serviceRange, endpointRange),
		view:  forwarding.Node{ServiceCIDRs: []netip.Prefix{serviceRange}},
		table: forwarding.NewTable(),
	}
	n.everything()
	generation := 0
	b.ReportAllocs()
	for b.Loop() {
		generation++
		if changes := n.set(n.services/2, generation); len(changes) != 1 {
			b.Fatalf("%d changes instead of 1", len(changes))
		}
	}
	report(b, "us/op", b.Elapsed().Seconds()*1e6/float64(b.N))
}
