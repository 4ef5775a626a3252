package ipset_test

import (
	"context"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netns"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
)

func TestSets(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "ipset")
}

// enterNamespace puts the spec into a network namespace of its own, which goes with it.
func enterNamespace() {
	GinkgoHelper()
	runtime.LockOSThread()
	home, err := netns.Get()
	Expect(err).NotTo(HaveOccurred())
	there, err := netns.New()
	Expect(err).NotTo(HaveOccurred(), "making a network namespace needs root")
	DeferCleanup(func() {
		Expect(netns.Set(home)).To(Succeed())
		Expect(there.Close()).To(Succeed())
		Expect(home.Close()).To(Succeed())
		runtime.UnlockOSThread()
	})
}

// listed is what ipset(8) says that a set holds.
func listed(name string) []string {
	GinkgoHelper()
	out, err := exec.Command("ipset", "list", name, "-output", "save").CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
	var lines []string
	for line := range strings.Lines(string(out)) {
		if added, ok := strings.CutPrefix(strings.TrimSpace(line), "add "+name+" "); ok {
			lines = append(lines, added)
		}
	}
	return lines
}

var _ = Describe("A set", func() {
	addr := netip.MustParseAddr
	for name, test := range map[string]struct {
		set     ipset.Set
		entries []ipset.Entry
		want    []string
	}{
		"of addresses": {
			ipset.Set{Name: "SPTEST-A", Kind: ipset.Addr},
			[]ipset.Entry{{Addr: addr("192.0.2.1")}, {Addr: addr("192.0.2.2")}},
			[]string{"192.0.2.1", "192.0.2.2"},
		},
		"of addresses and ports": {
			ipset.Set{Name: "SPTEST-P", Kind: ipset.AddrPort},
			[]ipset.Entry{{Addr: addr("192.0.2.1"), Protocol: 6, Port: 80}, {Addr: addr("192.0.2.1"), Protocol: 17, Port: 53},
				{Addr: addr("192.0.2.1"), Protocol: 132, Port: 7}},
			[]string{"192.0.2.1,tcp:80", "192.0.2.1,udp:53", "192.0.2.1,sctp:7"},
		},
		"of addresses and ports with marks": {
			ipset.Set{Name: "SPTEST-M", Kind: ipset.AddrPortMark},
			[]ipset.Entry{{Addr: addr("192.0.2.1"), Protocol: 6, Port: 80, Mark: 0x4000, Mask: 0x4000},
				{Addr: addr("192.0.2.2"), Protocol: 6, Port: 80, Mark: 0x1f37, Mask: 0xffffffff}, {Addr: addr("192.0.2.3"), Protocol: 6, Port: 80}},
			[]string{"192.0.2.1,tcp:80 skbmark 0x4000/0x4000", "192.0.2.2,tcp:80 skbmark 0x1f37", "192.0.2.3,tcp:80"},
		},
		"of addresses, ports and networks": {
			ipset.Set{Name: "SPTEST-N", Kind: ipset.AddrPortNet},
			[]ipset.Entry{{Addr: addr("192.0.2.1"), Protocol: 6, Port: 80, Net: netip.MustParsePrefix("10.0.0.0/8")},
				{Addr: addr("192.0.2.1"), Protocol: 6, Port: 80, Net: netip.MustParsePrefix("198.51.100.7/32")}},
			[]string{"192.0.2.1,tcp:80,10.0.0.0/8", "192.0.2.1,tcp:80,198.51.100.7"},
		},
		"of IPv6": {
			ipset.Set{Name: "SPTEST-6", Kind: ipset.AddrPortNet, IPv6: true},
			[]ipset.Entry{{Addr: addr("2001:db8::1"), Protocol: 6, Port: 80, Net: netip.MustParsePrefix("fd00::/8")},
				{Addr: addr("2001:db8::1"), Protocol: 6, Port: 80, Net: netip.MustParsePrefix("fd00::7/128")}},
			[]string{"2001:db8::1,tcp:80,fd00::/8", "2001:db8::1,tcp:80,fd00::7"},
		},
	} {
		It(name+" holds what it is given, and no more", func(ctx context.Context) {
			enterNamespace()
			k, err := ipset.Open()
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(k.Close)
			Expect(k.Make(ctx, test.set)).To(Succeed())
			Expect(k.Make(ctx, test.set)).To(Succeed(), "where it is there already")
			Expect(k.Update(ctx, test.set, test.entries, nil)).To(Succeed())
			Expect(listed(test.set.Name)).To(ConsistOf(test.want))
			Expect(k.List(ctx, test.set)).To(ConsistOf(test.entries))

			Expect(k.Update(ctx, test.set, nil, test.entries[:1])).To(Succeed())
			Expect(k.Update(ctx, test.set, nil, test.entries[:1])).To(Succeed(), "where it is gone already")
			Expect(k.List(ctx, test.set)).To(ConsistOf(test.entries[1:]))
		})
	}

	It("gives an entry that it has another mark", func(ctx context.Context) {
		enterNamespace()
		k, err := ipset.Open()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(k.Close)
		s := ipset.Set{Name: "SPTEST-M", Kind: ipset.AddrPortMark}
		Expect(k.Make(ctx, s)).To(Succeed())
		e := ipset.Entry{Addr: addr("192.0.2.1"), Protocol: 6, Port: 80, Mark: 1, Mask: 1}
		Expect(k.Update(ctx, s, []ipset.Entry{e}, nil)).To(Succeed())
		e.Mark, e.Mask = 0x1f37, 0xffffffff
		Expect(k.Update(ctx, s, []ipset.Entry{e}, nil)).To(Succeed())
		Expect(k.List(ctx, s)).To(ConsistOf(e))
	})

	It("of another kind under the same name is told of", func(ctx context.Context) {
		enterNamespace()
		k, err := ipset.Open()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(k.Close)
		Expect(k.Make(ctx, ipset.Set{Name: "SPTEST-A", Kind: ipset.Addr})).To(Succeed())
		Expect(k.Make(ctx, ipset.Set{Name: "SPTEST-A", Kind: ipset.AddrPort})).To(MatchError(ContainSubstring("ipset destroy SPTEST-A")))
	})

	It("takes thousands of entries in a few messages", func(ctx context.Context) {
		enterNamespace()
		k, err := ipset.Open()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(k.Close)
		s := ipset.Set{Name: "SPTEST-M", Kind: ipset.AddrPortMark}
		Expect(k.Make(ctx, s)).To(Succeed())
		var entries []ipset.Entry
		for i := range 10_000 {
			entries = append(entries, ipset.Entry{Addr: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), Protocol: 6, Port: 80, Mark: uint32(i), Mask: 0xffff})
		}
		Expect(k.Update(ctx, s, entries, nil)).To(Succeed())
		Expect(k.Sent().Messages).To(BeNumerically("<=", 25))
		Expect(k.List(ctx, s)).To(HaveLen(10_000))
	})
})
