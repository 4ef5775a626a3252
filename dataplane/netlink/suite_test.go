package netlink_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestNetlink(t *testing.T) {
	specs.Run(t, "dataplane/netlink")
}

// open opens a socket in a network namespace of its own, in which the spec stays. The thread remains locked, so that it
// ends with the spec's goroutine, and the namespace with it.
func open(protocol int) *netlink.Conn {
	GinkgoHelper()
	runtime.LockOSThread()
	Expect(unix.Unshare(unix.CLONE_NEWNET)).To(Succeed(), "making a network namespace needs root")
	return join(protocol)
}

func join(protocol int) *netlink.Conn {
	GinkgoHelper()
	conn, err := netlink.Open(protocol)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(conn.Close)
	return conn
}

// loopback is the index of interface lo in every network namespace.
const loopback = 1

// add gives interface lo an IPv4 address.
func add(addr netip.Addr) netlink.Request {
	body := append(netlink.Attributes{unix.AF_INET, 32, 0, unix.RT_SCOPE_HOST}, binary.NativeEndian.AppendUint32(nil, loopback)...)
	body.Bytes(unix.IFA_LOCAL, addr.AsSlice())
	return netlink.Request{Type: unix.RTM_NEWADDR, Flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, Body: body}
}

// wrongRoute is a request for a route to a network of 8 bits, of which others are set too.
func wrongRoute(to netip.Addr) netlink.Request {
	body := netlink.Attributes{unix.AF_INET, 8, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_LINK, unix.RTN_UNICAST, 0, 0, 0, 0}
	body.Bytes(unix.RTA_DST, to.AsSlice())
	body.Uint32(unix.RTA_OIF, loopback)
	return netlink.Request{Type: unix.RTM_NEWROUTE, Flags: unix.NLM_F_CREATE, Body: body}
}

func numbered(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func list() netlink.Request {
	return netlink.Request{Type: unix.RTM_GETADDR, Body: netlink.Attributes{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0}}
}

// listed is every IPv4 address there is.
func listed(ctx context.Context, conn *netlink.Conn, visited func()) (addrs []netip.Addr, interrupted bool) {
	GinkgoHelper()
	interrupted, err := conn.Dump(ctx, list(), func(kind uint16, body []byte) {
		visited()
		Expect(kind).To(BeEquivalentTo(unix.RTM_NEWADDR))
		netlink.Each(body[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
			if kind == unix.IFA_LOCAL {
				addr, _ := netip.AddrFromSlice(value)
				addrs = append(addrs, addr)
			}
		})
	})
	Expect(err).NotTo(HaveOccurred())
	return addrs, interrupted
}

var _ = Describe("A connection", func() {
	const many = 2_000

	It("carries out many requests in a few system calls, and says what became of each", func(ctx context.Context) {
		conn := open(unix.NETLINK_ROUTE)
		requests := make([]netlink.Request, many)
		for i := range requests {
			requests[i] = add(numbered(i - i%3/2)) // every third is one that was added just before
		}
		results, err := conn.Do(ctx, requests)
		Expect(err).NotTo(HaveOccurred())
		Expect(results).To(HaveLen(many))
		for i, result := range results {
			if i%3 == 2 {
				Expect(result).To(MatchError(unix.EEXIST))
			} else {
				Expect(result).NotTo(HaveOccurred())
			}
		}
		Expect(conn.Sent().Messages).To(BeEquivalentTo(many))
		Expect(conn.Sent().Calls).To(BeNumerically("<=", many/100))
		addrs, _ := listed(ctx, conn, func() {})
		Expect(addrs).To(HaveLen(many - many/3))
	})

	It("hears why each of many requests failed, in the words of the kernel", func(ctx context.Context) {
		conn := open(unix.NETLINK_ROUTE)
		requests := make([]netlink.Request, many)
		for i := range requests {
			requests[i] = wrongRoute(numbered(i + 1))
		}
		results, err := conn.Do(ctx, requests)
		Expect(err).NotTo(HaveOccurred())
		for _, result := range results {
			Expect(result).To(MatchError(unix.EINVAL))
			var refused *netlink.Error
			Expect(errors.As(result, &refused)).To(BeTrue())
			Expect(refused.Text).To(ContainSubstring("prefix"))
			Expect(refused).To(MatchError(ContainSubstring(refused.Text)))
		}
	})

	It("lists everything, and says when that changed meanwhile", func(ctx context.Context) {
		conn := open(unix.NETLINK_ROUTE)
		requests := make([]netlink.Request, many)
		for i := range requests {
			requests[i] = add(numbered(i))
		}
		_, err := conn.Do(ctx, requests)
		Expect(err).NotTo(HaveOccurred())
		addrs, interrupted := listed(ctx, conn, func() {})
		Expect(addrs).To(HaveLen(many))
		Expect(interrupted).To(BeFalse())

		another, visits := join(unix.NETLINK_ROUTE), 0
		_, interrupted = listed(ctx, conn, func() {
			if visits++; visits == 1 {
				_, err := another.Do(ctx, []netlink.Request{add(numbered(many))})
				Expect(err).NotTo(HaveOccurred())
			}
		})
		Expect(interrupted).To(BeTrue())
	})

	It("stays in its network namespace", func(ctx context.Context) {
		here := open(unix.NETLINK_ROUTE)
		there := open(unix.NETLINK_ROUTE)
		_, err := here.Do(ctx, []netlink.Request{add(numbered(1))})
		Expect(err).NotTo(HaveOccurred())
		addrs, _ := listed(ctx, here, func() {})
		Expect(addrs).To(HaveLen(1))
		addrs, _ = listed(ctx, there, func() {})
		Expect(addrs).To(BeEmpty())
	})

	It("says which requests were carried out when a context ends", func(ctx context.Context) {
		conn := open(unix.NETLINK_ROUTE)
		ended, end := context.WithCancel(ctx)
		end()
		results, err := conn.Do(ended, []netlink.Request{add(numbered(1))})
		Expect(err).To(MatchError(context.Canceled))
		Expect(results).To(BeEmpty())
		By("and serves the next one")
		results, err = conn.Do(ctx, []netlink.Request{add(numbered(2))})
		Expect(err).NotTo(HaveOccurred())
		Expect(results).To(ConsistOf(BeNil()))
	})

	It("serves on when a context ended in the middle of a list", func(ctx context.Context) {
		conn := open(unix.NETLINK_ROUTE)
		requests := make([]netlink.Request, many)
		for i := range requests {
			requests[i] = add(numbered(i))
		}
		_, err := conn.Do(ctx, requests)
		Expect(err).NotTo(HaveOccurred())
		for _, next := range []func(){
			func() { Expect(listed(ctx, conn, func() {})).To(HaveLen(many)) },
			func() {
				Expect(conn.Do(ctx, []netlink.Request{add(numbered(0))})).To(ConsistOf(MatchError(unix.EEXIST)))
			},
		} {
			ended, end := context.WithCancel(ctx)
			_, err := conn.Dump(ended, list(), func(uint16, []byte) { end() })
			Expect(err).To(MatchError(context.Canceled))
			next()
		}
	})

	It("does nothing when there is nothing to do", func(ctx context.Context) {
		conn := open(unix.NETLINK_ROUTE)
		Expect(conn.Do(ctx, nil)).To(BeEmpty())
		Expect(conn.Sent()).To(BeZero())
	})

	It("finds families of generic netlink", func(ctx context.Context) {
		conn := open(unix.NETLINK_GENERIC)
		Expect(conn.Family(ctx, "nlctrl")).To(BeEquivalentTo(unix.GENL_ID_CTRL))
		_, err := conn.Family(ctx, "no such one")
		Expect(err).To(MatchError(unix.ENOENT))
	})
})
