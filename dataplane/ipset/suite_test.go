package ipset_test

import (
	"context"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestSets(t *testing.T) {
	specs.Run(t, "ipset")
}

// open opens the sets of a network namespace of its own, in which the spec stays. The thread remains locked, so that it
// ends with the spec's goroutine, and the namespace with it.
func open() *ipset.Kernel {
	GinkgoHelper()
	runtime.LockOSThread()
	Expect(unix.Unshare(unix.CLONE_NEWNET)).To(Succeed(), "making a network namespace needs root")
	k, err := ipset.Open()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(k.Close)
	return k
}

// run runs ipset(8).
func run(args ...string) (string, error) {
	out, err := exec.Command("ipset", args...).CombinedOutput()
	return string(out), err
}

// inOrder sorts what a set holds, which has no order.
func inOrder(entries []ipset.Entry, err error) ([]ipset.Entry, error) {
	slices.SortFunc(entries, func(a, b ipset.Entry) int { return a.Addr.Compare(b.Addr) })
	return entries, err
}

// listed is what ipset(8) says that a set holds.
func listed(name string) []string {
	GinkgoHelper()
	out, err := run("list", name, "-output", "save")
	Expect(err).NotTo(HaveOccurred(), out)
	var lines []string
	for line := range strings.Lines(out) {
		if added, ok := strings.CutPrefix(strings.TrimSpace(line), "add "+name+" "); ok {
			lines = append(lines, added)
		}
	}
	return lines
}

var _ = Describe("A set", func() {
	addr := netip.MustParseAddr
	marks := ipset.Set{Name: "SPTEST-M", Kind: ipset.AddrPortMark}
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
			k := open()
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
		k := open()
		Expect(k.Make(ctx, marks)).To(Succeed())
		e := ipset.Entry{Addr: addr("192.0.2.1"), Protocol: 6, Port: 80, Mark: 1, Mask: 1}
		Expect(k.Update(ctx, marks, []ipset.Entry{e}, nil)).To(Succeed())
		e.Mark, e.Mask = 0x1f37, 0xffffffff
		Expect(k.Update(ctx, marks, []ipset.Entry{e}, nil)).To(Succeed())
		Expect(k.List(ctx, marks)).To(ConsistOf(e))
		By("and finds it by all but its mark")
		e.Mark, e.Mask = 0, 0
		Expect(k.Update(ctx, marks, nil, []ipset.Entry{e})).To(Succeed())
		Expect(k.List(ctx, marks)).To(BeEmpty())
	})

	It("of another kind under the same name is told of, and left as it is", func(ctx context.Context) {
		k := open()
		for _, kind := range []ipset.Kind{ipset.Addr, ipset.AddrPort, ipset.AddrPortMark, ipset.AddrPortNet} {
			held := ipset.Set{Name: "SPTEST-A", Kind: kind}
			Expect(k.Make(ctx, held)).To(Succeed())
			for _, wanted := range []ipset.Kind{ipset.Addr, ipset.AddrPort, ipset.AddrPortMark, ipset.AddrPortNet} {
				if wanted != kind {
					err := k.Make(ctx, ipset.Set{Name: held.Name, Kind: wanted})
					Expect(err).To(MatchError(ContainSubstring("ipset destroy SPTEST-A")), "%v instead of %v", wanted, kind)
				}
			}
			err := k.Make(ctx, ipset.Set{Name: held.Name, Kind: kind, IPv6: true})
			Expect(err).To(MatchError(ContainSubstring("ipset destroy SPTEST-A")), "of the other family")
			Expect(k.Make(ctx, held)).To(Succeed())
			Expect(k.Destroy(ctx, held.Name)).To(Succeed())
		}
	})

	It("takes thousands of entries in a few messages", func(ctx context.Context) {
		k := open()
		Expect(k.Make(ctx, marks)).To(Succeed())
		before := k.Sent()
		entries := frontends(10_000)
		Expect(k.Update(ctx, marks, entries, nil)).To(Succeed())
		Expect(k.Sent().Messages - before.Messages).To(BeNumerically("<=", 25))
		Expect(inOrder(k.List(ctx, marks))).To(Equal(entries))
		Expect(k.Update(ctx, marks, nil, entries[1:])).To(Succeed())
		Expect(k.List(ctx, marks)).To(ConsistOf(entries[0]))
		Expect(k.Flush(ctx, marks)).To(Succeed())
		Expect(k.List(ctx, marks)).To(BeEmpty())
	})

	It("names the entry that it has no room for", func(ctx context.Context) {
		k := open()
		_, err := run("create", marks.Name, "hash:ip,port", "skbinfo", "hashsize", "64", "maxelem", "600")
		Expect(err).NotTo(HaveOccurred())
		entries := frontends(2_000)
		err = k.Update(ctx, marks, entries, nil)
		Expect(err).To(MatchError(unix.ENOSPC))
		Expect(err).To(MatchError(ContainSubstring("writing 10.96.2.88,tcp:80 to the set " + marks.Name + ": it is full")))
		Expect(inOrder(k.List(ctx, marks))).To(Equal(entries[:600]))
		By("and still changes marks and removes")
		entries[0].Mark++
		Expect(k.Update(ctx, marks, entries[:1], entries[1:600])).To(Succeed())
		Expect(k.List(ctx, marks)).To(ConsistOf(entries[0]))
	})

	It("names the entry that is not one of its kind", func(ctx context.Context) {
		k := open()
		Expect(k.Make(ctx, marks)).To(Succeed())
		entries := frontends(3)
		entries[1].Addr = addr("2001:db8::1")
		Expect(k.Update(ctx, marks, entries, nil)).To(MatchError(ContainSubstring("2001:db8::1,tcp:80")))
	})

	It("that is not there says so", func(ctx context.Context) {
		k := open()
		Expect(k.Update(ctx, marks, frontends(1), nil)).To(MatchError(unix.ENOENT))
		_, err := k.List(ctx, marks)
		Expect(err).To(MatchError(unix.ENOENT))
		Expect(k.Flush(ctx, marks)).To(MatchError(unix.ENOENT))
		Expect(k.Destroy(ctx, marks.Name)).To(Succeed())
	})

	It("that a rule refers to stays", func(ctx context.Context) {
		k := open()
		Expect(k.Make(ctx, marks)).To(Succeed())
		out, err := exec.CommandContext(ctx, "iptables", "-A", "INPUT", "-m", "set", "--match-set", marks.Name, "dst,dst").CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(out))
		Expect(k.Destroy(ctx, marks.Name)).To(MatchError(unix.EBUSY))
		Expect(ipset.Names("SPTEST-")).To(ConsistOf(marks.Name))
	})

	It("of clients forgets them, and is found by its name", func(ctx context.Context) {
		open()
		Expect(ipset.Names("")).To(BeEmpty())
		Expect(ipset.Clients("SPTEST-C4", false, 7)).To(Succeed())
		Expect(ipset.Clients("SPTEST-C6", true, 7)).To(Succeed())
		Expect(ipset.Clients("SPTEST-C4", false, 7)).To(MatchError(unix.EEXIST))
		out, err := run("list", "-output", "save")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(And(MatchRegexp("create SPTEST-C4 hash:ip family inet .* timeout 7"), MatchRegexp("create SPTEST-C6 hash:ip family inet6 .* timeout 7")))
		Expect(ipset.Names("SPTEST-C")).To(ConsistOf("SPTEST-C4", "SPTEST-C6"))
		Expect(ipset.Names("SPTEST-C6")).To(ConsistOf("SPTEST-C6"))
		Expect(ipset.Destroy("SPTEST-C4")).To(Succeed())
		Expect(ipset.Destroy("SPTEST-C4")).To(Succeed(), "where it is gone already")
		Expect(ipset.Names("")).To(ConsistOf("SPTEST-C6"))
	})

	It("stays in its network namespace", func(ctx context.Context) {
		here := open()
		there := open()
		Expect(here.Make(ctx, marks)).To(Succeed())
		_, err := there.List(ctx, marks)
		Expect(err).To(MatchError(unix.ENOENT))
	})
})
