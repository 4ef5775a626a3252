package iptables_test

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// BenchmarkWriteNFT measures by which of the two ways nf_tables are written sooner and with less CPU, programs that are
// started included: all Services at once, and then one endpoint of one of them.
func BenchmarkWriteNFT(b *testing.B) {
	for _, services := range []int{100, 1_000, 10_000} {
		for way, direct := range map[string]bool{"netlink": true, "program": false} {
			b.Run(fmt.Sprintf("all/%d/%s", services, way), func(b *testing.B) { benchmarkWrite(b, services, direct, true) })
			b.Run(fmt.Sprintf("one/%d/%s", services, way), func(b *testing.B) { benchmarkWrite(b, services, direct, false) })
		}
	}
}

func benchmarkWrite(b *testing.B, services int, direct, all bool) {
	RegisterTestingT(b)
	inNamespace(xtables.NFT, func(*kernel) {
		tools := probe(b.Context())
		for _, programs := range tools.Families {
			programs.Direct = direct
		}
		w := withServices(services)
		engine := iptables.New(tools, w.settings)
		var took, cpu time.Duration
		apply := func(change func() (xtables.Written, error)) {
			began, before := time.Now(), used()
			written, err := change()
			took += time.Since(began)
			cpu += used() - before
			Expect(err).NotTo(HaveOccurred())
			if direct {
				Expect(written.Programs).To(BeZero())
			} else {
				Expect(written.Programs).NotTo(BeZero())
			}
			// The next change would wait until what this one replaced is gone, as the program has done that has ended.
			for _, programs := range tools.Families {
				Expect(programs.Settle()).To(Succeed())
			}
		}
		everything := w.all()
		if !all {
			_, err := engine.Apply(b.Context(), everything)
			Expect(err).NotTo(HaveOccurred())
		}
		n := 0
		for b.Loop() {
			if n++; all {
				apply(func() (xtables.Written, error) { return engine.Apply(b.Context(), everything) })
				Expect(engine.Remove(b.Context())).To(Succeed())
				engine = iptables.New(tools, w.settings)
				continue
			}
			change := w.set(fmt.Sprintf("svc7 172.30.0.7 80 -> 10.180.0.7 10.190.%d.%d", n>>8&255, n&255))
			apply(func() (xtables.Written, error) { return engine.Apply(b.Context(), change) })
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(took.Seconds()*1e3/float64(n), "ms/op")
		b.ReportMetric(cpu.Seconds()*1e3/float64(n), "cpu-ms/op")
	})
}

// used is the CPU that this process has used, and programs that it started.
func used() (all time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		Expect(unix.Getrusage(who, &usage)).To(Succeed())
		all += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return all
}
