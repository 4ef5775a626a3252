package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	connection "github.com/serviceproxy/service-proxy-operator/test/bench/connect"
)

// rig is a client and a server with routers between them, each the only way to certain addresses:
//
//	         ┌─ router 1 ─┐
//	client ──┼─ router 2 ─┼── server, which has every endpoint's address
//	         └─ ...      ─┘
type rig struct {
	client, server *host
	routers        int
}

// endpoints is what the server answers to. Router n has 10.(200+n).0.0/16 of it.
var endpoints = netip.MustParsePrefix("10.200.0.0/13")

func newRig(b *testing.B) *rig {
	r := &rig{client: newHost(b), server: newHost(b)}
	r.server.answerTo(b, endpoints)
	var listener net.Listener
	r.server.do(b, func() (err error) {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		listener, err = config.Listen(b.Context(), "tcp4", fmt.Sprintf(":%d", endpointPort))
		return err
	})
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_ = conn.Close()
			}
		}
	}()
	return r
}

// router adds a router on the way to Services in a /16 and to their endpoints in another, which it returns.
func (r *rig) router(b *testing.B, serviceCIDR netip.Prefix) (h *host, endpointCIDR netip.Prefix) {
	r.routers++
	n := byte(r.routers)
	endpointCIDR = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200 + n, 0, 0}), 16)
	clientSide := func(last byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, n, last}), 24) }
	serverSide := func(last byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, n, last}), 24) }
	h = newHost(b)
	connect(b, r.client, fmt.Sprintf("router%d", n), clientSide(2), h, "client", clientSide(1))
	connect(b, r.server, fmt.Sprintf("router%d", n), serverSide(2), h, "server", serverSide(1))
	for _, p := range []netip.Prefix{serviceCIDR, endpointCIDR} {
		r.client.route(b, p, clientSide(1).Addr())
	}
	h.route(b, endpointCIDR, serverSide(2).Addr())
	r.server.route(b, clientSide(0), serverSide(1).Addr())
	h.sysctl(b, map[string]string{
		"ipv4/ip_forward": "1",
		// Each connection is reset at once; what is left of it is not to slow down those that come after.
		"netfilter/nf_conntrack_tcp_timeout_close": "1",
	})
	return h, endpointCIDR
}

// target is one of the things that connections are opened to in turn.
type target struct {
	name    string
	next    func() netip.AddrPort
	samples []time.Duration
}

func (t *target) median() float64 {
	return float64(slices.Sorted(slices.Values(t.samples))[len(t.samples)/2])
}

func at(addr netip.Addr, port uint16) func() netip.AddrPort {
	return func() netip.AddrPort { return netip.AddrPortFrom(addr, port) }
}

func anyOf(addrs []netip.Addr) func() netip.AddrPort {
	random := rand.New(rand.NewPCG(3, 4))
	return func() netip.AddrPort { return netip.AddrPortFrom(addrs[random.IntN(len(addrs))], servicePort) }
}

// The service ranges of the routers.
var (
	nowhere   = netip.MustParsePrefix("10.100.0.0/16")
	fewRange  = netip.MustParsePrefix("10.101.0.0/16")
	manyRange = netip.MustParsePrefix("10.102.0.0/16")
)

// BenchmarkFirstPacket measures how long connect(2) takes: the SYN goes through the rules, the answer through conntrack.
// Every value is the median of one target divided by that of "clean" in the same run: a router with conntrack and a rule
// for translation that never matches, which is what a node costs without any Service.
func BenchmarkFirstPacket(b *testing.B) {
	backends(b, func(b *testing.B, backend xtables.Backend) {
		r := newRig(b)
		medians := r.measure(b, ourTargets(b, r, backend))
		report(b, "last-of-10000/first-of-10", medians["last-of-10000"]/medians["first-of-10"])
		report(b, "clean-us", medians["clean"]/1e3)
	})
}

// ourTargets adds three routers: "clean", one with 10 Services, and one with 10,000.
func ourTargets(b *testing.B, r *rig, backend xtables.Backend) []*target {
	clean, cleanEndpoints := r.router(b, nowhere)
	neverMatch(b, clean, backend)
	fewHost, fewEndpoints := r.router(b, fewRange)
	few := filled(b, fewHost, backend, newPlan(shape{services: 10, endpoints: 2}, fewRange, fewEndpoints)).inOrder()
	manyHost, manyEndpoints := r.router(b, manyRange)
	many := filled(b, manyHost, backend, newPlan(shape{services: 10_000, endpoints: 2}, manyRange, manyEndpoints)).inOrder()
	return []*target{
		{name: "clean", next: at(nth(cleanEndpoints, 1), endpointPort)},
		{name: "no-Service-10", next: at(nth(fewEndpoints, 1), endpointPort)},
		{name: "no-Service-10000", next: at(nth(manyEndpoints, 1), endpointPort)},
		{name: "first-of-10", next: at(few[0], servicePort)},
		{name: "first-of-10000", next: at(many[0], servicePort)},
		{name: "median-of-10000", next: at(many[len(many)/2], servicePort)},
		{name: "last-of-10000", next: at(many[len(many)-1], servicePort)},
		{name: "random-of-10000", next: anyOf(many)},
	}
}

// measure connects to all targets in turn, reports the median of each as a ratio to that of the first, and returns the
// medians in nanoseconds.
func (r *rig) measure(b *testing.B, targets []*target) map[string]float64 {
	r.client.do(b, func() error { return takeTurns(b, targets) })
	medians := map[string]float64{}
	for _, t := range targets {
		medians[t.name] = t.median()
		if t != targets[0] {
			report(b, t.name+"/"+targets[0].name, t.median()/targets[0].median())
		}
	}
	b.ReportMetric(0, "ns/op") // of all targets together: says nothing
	return medians
}

// neverMatch gives a router conntrack and translation, and no packet to translate.
func neverMatch(tb testing.TB, h *host, backend xtables.Backend) {
	h.restore(tb, string(backend), "*nat\n-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 9 -j DNAT --to-destination 192.0.2.2:9\n"+
		"-A POSTROUTING -s 192.0.2.1/32 -j MASQUERADE\nCOMMIT\n")
}

// takeTurns opens connections to all targets in turn, in another order each time, so that whatever else the machine does
// hits all of them alike.
func takeTurns(b *testing.B, targets []*target) error {
	for _, t := range targets { // also makes neighbours known
		if _, err := timeConnect(t.next()); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	order := slices.Clone(targets)
	for b.Loop() {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		if err := sample(order); err != nil {
			return err
		}
	}
	return nil
}

// sample connects to each target once.
func sample(targets []*target) error {
	for _, t := range targets {
		took, err := timeConnect(t.next())
		switch {
		case errors.Is(err, unix.EINTR): // by the scheduler of the Go runtime
		case err != nil:
			return fmt.Errorf("%s: %w", t.name, err)
		default:
			t.samples = append(t.samples, took)
		}
	}
	return nil
}

// timeConnect connects, says how long that took, and resets the connection.
func timeConnect(to netip.AddrPort) (time.Duration, error) {
	fd, err := connection.Socket(5 * time.Second)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	return connection.Time(fd, to)
}
