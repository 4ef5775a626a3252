package conformance_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

const (
	// patience is how long a packet may take where an answer is expected, and silence how long nothing must come where
	// none is. An answer takes less than a millisecond; that a TCP connection is rejected takes a second, because the
	// answer is there while the kernel is still busy connecting, and it then tries again.
	patience = 15 * time.Second
	silence  = 150 * time.Millisecond
)

// client sends packets from the hosts of a rig, each from another port, so that none belongs to an old connection.
type client struct {
	*rig
	sent atomic.Uint32
}

func (c *client) port() uint16 { return uint16(32768 + c.sent.Add(1)%28000) }

// check sends a packet, until every backend that it may reach has been seen if seeAll is set, and returns what is wrong.
func (c *client) check(p *scenario.Packet, seeAll bool) error {
	attempts := 1
	if seeAll && len(p.Want.Backends) > 1 {
		// A backend that gets its share is missed by all of them less than once in 10^8 times.
		attempts = 20 * len(p.Want.Backends)
	}
	seen := map[netip.AddrPort]bool{}
	for i := range attempts {
		a, verdict, err := c.send(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if err := c.judge(p, a, verdict); err != nil {
			return fmt.Errorf("%s: want %s; %w", p, p.Want, err)
		}
		seen[a.local] = true
		if i+1 == attempts && !seeAll || len(seen) >= len(p.Want.Backends) {
			return nil
		}
	}
	return fmt.Errorf("%s: want %s; in %d attempts only %d of the backends were reached", p, p.Want, attempts, len(seen))
}

// judge compares what became of a packet with what should have.
func (c *client) judge(p *scenario.Packet, a answer, verdict scenario.Verdict) error {
	got := string(verdict)
	if verdict == scenario.Forwarded {
		got = a.String()
	}
	wrong := fmt.Errorf("got %s", got)
	switch {
	case p.Want.Verdict == scenario.Untouched:
		if a.local != p.Destination || a.remote.Addr() != p.Source {
			return wrong
		}
	case verdict != p.Want.Verdict:
		return wrong
	case verdict != scenario.Forwarded:
	case a.host != c.endpoints.name, !slices.Contains(p.Want.Backends, a.local), (a.remote.Addr() != p.Source) != p.Want.Masquerade:
		return wrong
	}
	return nil
}

// send sends a packet and waits for what becomes of it. The verdict is Forwarded wherever it was answered.
func (c *client) send(p *scenario.Packet) (a answer, verdict scenario.Verdict, err error) {
	wait := patience
	if p.Want.Verdict == scenario.Dropped {
		wait = silence
	}
	err = c.from(p.From).do(func() (err error) {
		switch p.Protocol {
		case forwarding.TCP:
			a, err = c.tcp(p, wait)
		case forwarding.UDP:
			a, err = c.udp(p, wait)
		case forwarding.SCTP:
			a, err = c.sctp(p, wait)
		}
		return err
	})
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return a, scenario.Rejected, nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return a, scenario.Dropped, nil
	}
	return a, scenario.Forwarded, err
}

func (c *client) tcp(p *scenario.Packet, wait time.Duration) (answer, error) {
	dialer := net.Dialer{
		Timeout: wait, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, c.port())), KeepAlive: -1,
	}
	conn, err := dialer.Dial("tcp", p.Destination.String())
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }()
	return read(conn, wait)
}

func (c *client) udp(p *scenario.Packet, wait time.Duration) (answer, error) {
	dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Source, c.port()))}
	conn, err := dialer.Dial("udp", p.Destination.String())
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }()
	for deadline := time.Now().Add(wait); ; {
		// A datagram that is rejected or dropped before it leaves the host is not permitted; what is read says which.
		if _, err := conn.Write([]byte("who?")); err != nil && !errors.Is(err, unix.EPERM) {
			return answer{}, err
		}
		// The kernel rejects only so many packets at once and keeps silent about the others, so ask again.
		a, err := read(conn, silence)
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(deadline) {
			return a, err
		}
	}
}

func read(conn net.Conn, wait time.Duration) (answer, error) {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return answer{}, err
	}
	text := make([]byte, 200)
	n, err := conn.Read(text)
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(string(text[:n]))
}

func (c *client) sctp(p *scenario.Packet, wait time.Duration) (answer, error) {
	network := "ip4:sctp"
	if p.Source.Is6() {
		network = "ip6:sctp"
	}
	dialer := net.Dialer{LocalAddr: &net.IPAddr{IP: p.Source.AsSlice()}}
	conn, err := dialer.Dial(network, p.Destination.Addr().String())
	if err != nil {
		return answer{}, err
	}
	port := c.port()
	tag := uint32(port)<<16 | c.sent.Add(1)&0xffff
	noted, done := c.servers.expect(tag)
	defer done()
	refused := make(chan error, 1)
	defer func() { _, _ = conn.Close(), <-refused }()
	_, err = conn.Write(sctpInit(port, p.Destination.Port(), tag))
	go func() {
		_, err := conn.Read(make([]byte, 100)) // nothing but errors is ever sent back
		refused <- err
	}()
	if err != nil {
		return answer{}, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case a := <-noted:
		return a, nil
	case err := <-refused:
		refused <- err
		return answer{}, err
	case <-timer.C:
		return answer{}, os.ErrDeadlineExceeded
	}
}

const sctpInitLength = 32

// sctpInit is the first packet of an SCTP association (RFC 9260, section 3.3.2).
func sctpInit(from, to uint16, tag uint32) []byte {
	b := make([]byte, 0, sctpInitLength)
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = append(b, make([]byte, 4+4)...) // verification tag, checksum
	b = append(b, 1, 0, 0, 20)          // INIT, no flags, length
	b = binary.BigEndian.AppendUint32(b, tag)
	b = binary.BigEndian.AppendUint32(b, 65536) // receiver window
	b = append(b, 0, 1, 0, 1)                   // streams out and in
	b = binary.BigEndian.AppendUint32(b, tag)   // first sequence number
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
