package virtualserver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/ipvs"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

// schedulers are those that the API has.
var schedulers = []string{"rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh"}

var _ = Describe("Kernel", func() {
	keys := []virtualserver.Key{
		virtualserver.Marked(0x4001, false), virtualserver.Marked(0x4001, true),
		tcp("10.0.0.1:80"), udp("10.0.0.1:80"), sctp("10.0.0.1:80"),
		tcp("[fd00::1]:80"), udp("[fd00::1]:80"), sctp("[fd00::1]:80"),
	}

	It("has what it was told, of every scheduler, and knows it for ours", func(ctx context.Context) {
		enterNamespace()
		servers := open()
		var want []virtualserver.State
		var add virtualserver.Batch
		for i, scheduler := range schedulers {
			for _, persistence := range []uint32{0, 10800} {
				for _, key := range keys {
					key.Port += uint16(i)
					key.Mark += uint32(i)
					if persistence > 0 {
						key.Port += 1000
						key.Mark += 1000
					}
					if key.Addr.IsValid() {
						key.Mark = 0
					} else {
						key.Port = 0
					}
					server := virtualserver.New(key, scheduler, persistence)
					add.AddServer(server)
					want = append(want, virtualserver.State{Server: server})
				}
			}
		}
		do(ctx, servers, add)
		expectStates(ctx, servers, want)

		By("giving each of them another scheduler, and persistence to those that had none")
		var set virtualserver.Batch
		for i := range want {
			persistence := uint32(60)
			if want[i].Flags&virtualserver.FlagPersistent != 0 {
				persistence = 0
			}
			server := virtualserver.New(want[i].Key, schedulers[(i/16+1)%len(schedulers)], persistence)
			set.SetServer(server)
			want[i] = virtualserver.State{Server: server}
		}
		do(ctx, servers, set)
		expectStates(ctx, servers, want)

		By("telling of those of IPv4 in one call")
		var add4 virtualserver.Batch
		var summaries, want4 []virtualserver.Server
		for i := range want {
			if !want[i].IPv6 {
				want4 = append(want4, want[i].Server)
				add4.AddReal(want[i].Key, realServer("10.2.0.1:8080", 1))
				add4.AddReal(want[i].Key, realServer("10.2.0.2:8080", 0))
			}
		}
		do(ctx, servers, add4)
		Expect(virtualserver.Summaries(func(s virtualserver.Server, reals int) {
			Expect(reals).To(Equal(2))
			summaries = append(summaries, s)
		})).To(Succeed())
		Expect(summaries).To(ConsistOf(want4))

		var remove virtualserver.Batch
		for i := range want {
			remove.DeleteServer(want[i].Key)
		}
		do(ctx, servers, remove)
		Expect(servers.List(ctx)).To(BeEmpty())
	})

	It("tells ours from those of others", func(ctx context.Context) {
		enterNamespace()
		servers := open()
		others, err := ipvs.New("")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(others.Close)
		for i, scheduler := range schedulers {
			Expect(others.NewService(&ipvs.Service{
				AddressFamily: unix.AF_INET, Address: net.IPv4(10, 0, 0, 1), Protocol: unix.IPPROTO_TCP, Port: uint16(80 + i),
				SchedName: scheduler, Flags: virtualserver.FlagSourcePort | virtualserver.FlagPersistent | 0x08, Timeout: 30, Netmask: 0xffffff,
			})).To(Succeed())
		}
		states, err := servers.List(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(states).To(HaveLen(len(schedulers)))
		for _, s := range states {
			Expect(s.Ours()).To(BeFalse(), s.Key.String())
		}
	})

	DescribeTable("real servers", func(ctx context.Context, key virtualserver.Key, first, second string) {
		enterNamespace()
		servers := open()
		server := virtualserver.New(key, "rr", 0)
		var add virtualserver.Batch
		add.AddServer(server)
		add.AddReal(key, realServer(first, 1))
		add.AddReal(key, realServer(second, 100))
		do(ctx, servers, add)
		expectStates(ctx, servers, []virtualserver.State{{Server: server, Real: []virtualserver.RealState{
			{RealServer: realServer(first, 1)}, {RealServer: realServer(second, 100)},
		}}})

		var set virtualserver.Batch
		set.SetReal(key, realServer(first, 0))
		set.DeleteReal(key, realServer(second, 0))
		do(ctx, servers, set)
		expectStates(ctx, servers, []virtualserver.State{{Server: server, Real: []virtualserver.RealState{
			{RealServer: realServer(first, 0)},
		}}})
	},
		Entry("of an IPv4 address", tcp("10.0.0.1:80"), "10.1.0.1:8080", "10.1.0.2:8081"),
		Entry("of an IPv6 address", udp("[fd00::1]:53"), "[fd01::1]:8053", "[fd01::2]:8053"),
		Entry("of a mark on IPv4", virtualserver.Marked(7, false), "10.1.0.1:8080", "10.1.0.2:8081"),
		Entry("of a mark on IPv6", virtualserver.Marked(7, true), "[fd01::1]:8080", "[fd01::2]:8081"),
	)

	It("says of each change that was refused why, and makes the others", func(ctx context.Context) {
		enterNamespace()
		servers := open()
		there, gone := tcp("10.0.0.1:80"), tcp("10.0.0.9:80")
		var batch virtualserver.Batch
		batch.AddServer(virtualserver.New(there, "rr", 0))
		batch.AddReal(there, realServer("10.1.0.1:80", 1))
		type refusal struct {
			operation virtualserver.Operation
			reason    error
		}
		var want []refusal
		refused := func(reason error) { want = append(want, refusal{batch[len(batch)-1], reason}) }
		batch.AddServer(virtualserver.New(there, "wrr", 0))
		refused(unix.EEXIST)
		batch.AddServer(virtualserver.New(udp("10.0.0.1:80"), "nonsense", 0))
		refused(unix.ENOENT)
		batch.SetServer(virtualserver.New(gone, "rr", 0))
		refused(unix.ESRCH)
		batch.DeleteServer(gone)
		refused(unix.ESRCH)
		batch.AddReal(gone, realServer("10.1.0.1:80", 1))
		refused(unix.ESRCH)
		batch.AddReal(there, realServer("10.1.0.1:80", 1))
		refused(unix.EEXIST)
		batch.SetReal(there, realServer("10.1.0.9:80", 1))
		refused(unix.ENOENT)
		batch.DeleteReal(there, realServer("10.1.0.9:80", 1))
		refused(unix.ENOENT)
		batch.AddReal(there, realServer("224.0.0.1:80", 1))
		refused(unix.EINVAL)
		batch.AddReal(there, realServer("10.1.0.2:80", 1))

		failures := servers.Do(ctx, batch)
		Expect(failures).To(HaveLen(len(want)))
		for i, f := range failures {
			Expect(f.Operation).To(Equal(want[i].operation))
			Expect(errors.Is(f, want[i].reason)).To(BeTrue(), "%v, want %v", f, want[i].reason)
		}
		Expect(failures[0]).To(MatchError(ContainSubstring("adding virtual server tcp 10.0.0.1:80: file exists")))
		Expect(failures[6]).To(MatchError(ContainSubstring("changing real server 10.1.0.9:80 of virtual server tcp 10.0.0.1:80: no such file")))
		expectStates(ctx, servers, []virtualserver.State{{Server: virtualserver.New(there, "rr", 0), Real: []virtualserver.RealState{
			{RealServer: realServer("10.1.0.1:80", 1)}, {RealServer: realServer("10.1.0.2:80", 1)},
		}}})
	})

	It("answers for every one of thousands of changes at once", func(ctx context.Context) {
		enterNamespace()
		servers := open()
		add := manyServers(3000)
		do(ctx, servers, add)
		Expect(servers.List(ctx)).To(HaveLen(3000))
		failures := servers.Do(ctx, add)
		Expect(failures).To(HaveLen(len(add)))
		for i, f := range failures {
			Expect(f.Operation).To(Equal(add[i]))
			Expect(f).To(MatchError(unix.EEXIST))
		}
	})

	It("counts the connections of the virtual servers it is asked for", func(ctx context.Context) {
		enterNamespace("10.0.0.1", "10.1.0.1")
		servers := open()
		listener, err := net.Listen("tcp", "10.1.0.1:8080")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(listener.Close)
		web, other := tcp("10.0.0.1:80"), tcp("10.0.0.1:81")
		backend := realServer("10.1.0.1:8080", 1)
		var batch virtualserver.Batch
		for _, key := range []virtualserver.Key{web, other} {
			batch.AddServer(virtualserver.New(key, "rr", 0))
			batch.AddReal(key, backend)
		}
		do(ctx, servers, batch)
		count := func() virtualserver.Connections {
			GinkgoHelper()
			found, err := servers.Connections(ctx, map[virtualserver.Key]struct{}{web: {}})
			Expect(err).NotTo(HaveOccurred())
			Expect(found).To(HaveLen(1))
			Expect(found[web]).To(HaveLen(1))
			return found[web][backend.Addr]
		}
		Expect(count()).To(Equal(virtualserver.Connections{}))

		held, err := net.DialTimeout("tcp", "10.0.0.1:80", 5*time.Second)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { _ = held.Close() })
		accepted, err := listener.Accept()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { _ = accepted.Close() })
		Expect(count()).To(Equal(virtualserver.Connections{Active: 1}))

		By("taking no new connections, and keeping the one there is")
		var drain virtualserver.Batch
		drain.SetReal(web, virtualserver.RealServer{Addr: backend.Addr})
		do(ctx, servers, drain)
		_, err = net.DialTimeout("tcp", "10.0.0.1:80", 200*time.Millisecond)
		Expect(err).To(HaveOccurred())
		_, err = held.Write([]byte("still here"))
		Expect(err).NotTo(HaveOccurred())
		text := make([]byte, 10)
		_, err = accepted.Read(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(text)).To(Equal("still here"))
		Expect(count()).To(Equal(virtualserver.Connections{Active: 1}))

		Expect(held.Close()).To(Succeed())
		Expect(accepted.Close()).To(Succeed())
		Eventually(count).Should(Equal(virtualserver.Connections{Inactive: 1}), "the kernel may come to the last packets later")
	})

	It("counts nothing for a virtual server that is not there", func(ctx context.Context) {
		enterNamespace()
		gone := tcp("10.0.0.1:80")
		found, err := open().Connections(ctx, map[virtualserver.Key]struct{}{gone: {}})
		Expect(err).NotTo(HaveOccurred())
		Expect(found[gone]).To(BeEmpty())
	})

	It("sets timeouts, and leaves those that are 0", func(ctx context.Context) {
		enterNamespace()
		servers := open()
		reader, err := ipvs.New("")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(reader.Close)
		before, err := reader.GetConfig()
		Expect(err).NotTo(HaveOccurred())

		Expect(servers.SetTimeouts(ctx, 0, 0, 0)).To(Succeed())
		Expect(reader.GetConfig()).To(Equal(before))
		Expect(servers.SetTimeouts(ctx, 100*time.Second, 0, 1500*time.Millisecond)).To(Succeed())
		Expect(reader.GetConfig()).To(Equal(&ipvs.Config{
			TimeoutTCP: 100 * time.Second, TimeoutTCPFin: before.TimeoutTCPFin, TimeoutUDP: 2 * time.Second,
		}))
		Expect(servers.SetTimeouts(ctx, 0, 20*time.Second, 0)).To(Succeed())
		Expect(reader.GetConfig()).To(Equal(&ipvs.Config{
			TimeoutTCP: 100 * time.Second, TimeoutTCPFin: 20 * time.Second, TimeoutUDP: 2 * time.Second,
		}))
	})

	It("takes the parameters that virtual servers need", func(ctx context.Context) {
		enterNamespace()
		open()
		release, err := virtualserver.Release()
		Expect(err).NotTo(HaveOccurred())
		refused, err := conntrack.Apply("/", virtualserver.Writes(release, true))
		Expect(err).NotTo(HaveOccurred())
		Expect(refused).To(BeEmpty())
	})
})

// expectStates expects the virtual servers there are to be these, and another reader of IPVS to see the same.
func expectStates(ctx context.Context, servers *virtualserver.Kernel, want []virtualserver.State) {
	GinkgoHelper()
	byKey := func(a, b virtualserver.State) int { return compareKeys(a.Key, b.Key) }
	got, err := servers.List(ctx)
	Expect(err).NotTo(HaveOccurred())
	want = slices.SortedFunc(slices.Values(want), byKey)
	slices.SortFunc(got, byKey)
	for i := range got {
		slices.SortFunc(got[i].Real, func(a, b virtualserver.RealState) int { return a.Addr.Compare(b.Addr) })
		Expect(got[i].Ours()).To(BeTrue(), got[i].Key.String())
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	samePort := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	Expect(cmp.Diff(want, got, same, samePort)).To(BeEmpty(), "virtual servers (-want +got)")
	Expect(cmp.Diff(texts(want), seenByOthers(), same)).To(BeEmpty(), "virtual servers as seen by others (-want +got)")
}

func compareKeys(a, b virtualserver.Key) int {
	switch x, y := fmt.Sprint(a), fmt.Sprint(b); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// texts are virtual and real servers in words, in order.
func texts(states []virtualserver.State) []string {
	var found []string
	for _, s := range states {
		netmask := uint32(0xffffffff)
		if s.IPv6 {
			netmask = 128
		}
		found = append(found, fmt.Sprintf("%s %s flags %#x timeout %d netmask %#x", s.Key, s.Scheduler, s.Flags, s.PersistenceSeconds, netmask))
		for _, r := range s.Real {
			found = append(found, fmt.Sprintf("%s to %s weight %d masquerading", s.Key, r.Addr, r.Weight))
		}
	}
	slices.Sort(found)
	return found
}

// seenByOthers are virtual and real servers in the same words, as another library reads them.
func seenByOthers() []string {
	GinkgoHelper()
	reader, err := ipvs.New("")
	Expect(err).NotTo(HaveOccurred())
	defer reader.Close()
	services, err := reader.GetServices()
	Expect(err).NotTo(HaveOccurred())
	var found []string
	for _, s := range services {
		name := "IPv4"
		if s.AddressFamily == unix.AF_INET6 {
			name = "IPv6"
		}
		key := fmt.Sprintf("%s mark %#x", name, s.FWMark)
		if s.FWMark == 0 {
			protocol := map[uint16]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[s.Protocol]
			key = protocol + " " + net.JoinHostPort(s.Address.String(), fmt.Sprint(s.Port))
		}
		const hashed = 0x02
		found = append(found, fmt.Sprintf("%s %s flags %#x timeout %d netmask %#x", key, s.SchedName, s.Flags&^hashed, s.Timeout, s.Netmask))
		destinations, err := reader.GetDestinations(s)
		Expect(err).NotTo(HaveOccurred())
		for _, d := range destinations {
			method := "masquerading"
			if d.ConnectionFlags != ipvs.ConnectionFlagMasq {
				method = fmt.Sprintf("method %d", d.ConnectionFlags)
			}
			found = append(found, fmt.Sprintf("%s to %s weight %d %s", key, net.JoinHostPort(d.Address.String(), fmt.Sprint(d.Port)), d.Weight, method))
		}
	}
	slices.Sort(found)
	return found
}

// manyServers adds so many virtual servers with a real server each.
func manyServers(n int) virtualserver.Batch {
	var batch virtualserver.Batch
	for i := range n {
		key := tcp(fmt.Sprintf("10.96.%d.%d:80", i>>8&0xff, i&0xff))
		batch.AddServer(virtualserver.New(key, "rr", 0))
		batch.AddReal(key, realServer(fmt.Sprintf("10.1.%d.%d:8080", i>>8&0xff, i&0xff), 1))
	}
	return batch
}
