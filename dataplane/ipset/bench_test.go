package ipset_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
)

// BenchmarkUpdate changes the marks of some entries of a set of 10,000, and counts messages and system calls.
func BenchmarkUpdate(b *testing.B) {
	const held = 10_000
	for _, changed := range []int{1, 100, held} {
		b.Run(fmt.Sprintf("entries=%d", changed), func(b *testing.B) {
			runtime.LockOSThread() // and so the network namespace goes with the thread
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				b.Fatal(err)
			}
			k, err := ipset.Open()
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = k.Close() })
			set := ipset.Set{Name: "SPTEST-M", Kind: ipset.AddrPortMark}
			if err := k.Make(b.Context(), set); err != nil {
				b.Fatal(err)
			}
			entries := frontends(held)
			if err := k.Update(b.Context(), set, entries, nil); err != nil {
				b.Fatal(err)
			}
			before := k.Sent()
			b.ReportAllocs()
			for b.Loop() {
				for i := range changed {
					entries[i].Mark++
				}
				if err := k.Update(b.Context(), set, entries[:changed], nil); err != nil {
					b.Fatal(err)
				}
			}
			after := k.Sent()
			b.ReportMetric(float64(after.Messages-before.Messages)/float64(b.N), "messages/op")
			b.ReportMetric(float64(after.Calls-before.Calls)/float64(b.N), "calls/op")
		})
	}
}

// frontends are entries as there are of Services.
func frontends(n int) []ipset.Entry {
	entries := make([]ipset.Entry, n)
	for i := range entries {
		addr := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		entries[i] = ipset.Entry{Addr: addr, Protocol: unix.IPPROTO_TCP, Port: 80, Mark: uint32(i), Mask: 0xffff}
	}
	return entries
}
