package conntrack_test

import (
	"fmt"
	"testing"
)

// BenchmarkFlush deletes the 1,000 flows of one Service that lost its endpoint, out of a table of 100,000 UDP flows.
func BenchmarkFlush(b *testing.B) {
	const others, stale = 99_000, 1_000
	p := plans["IPv4"]
	svc := p.service()
	for name, without := range map[string]bool{"filter=kernel": false, "filter=agent": true} {
		b.Run(name, func(b *testing.B) {
			if err := enterNamespace(); err != nil {
				b.Fatal(err)
			}
			table := make([]flow, 0, others)
			for i := range others {
				to := fmt.Sprintf("10.%d.%d.%d:53", i>>16, i>>8&0xff, i&0xff)
				table = append(table, udp(to, to))
			}
			if err := insert(table...); err != nil {
				b.Fatal(err)
			}
			lost := make([]flow, stale)
			for i := range lost {
				lost[i] = udp(at(p.clusterIP, port), at(p.gone, targetPort))
			}
			proxy := newProxy(p.serviceCIDR)
			flush := func() int {
				deleted, err := proxy.cleaner.Flush(b.Context(), proxy.view)
				if err != nil {
					b.Fatal(err)
				}
				return deleted
			}
			flush()
			if without {
				proxy.cleaner.WithoutFilters()
			}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				if err := insert(lost...); err != nil {
					b.Fatal(err)
				}
				proxy.update(svc.Name, svc, slice(endpoint(p.gone)))
				proxy.update(svc.Name, svc, slice(endpoint(p.serving)))
				b.StartTimer()
				if deleted := flush(); deleted != stale {
					b.Fatalf("%d flows deleted, want %d", deleted, stale)
				}
			}
		})
	}
}
