package conformance_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// answer is what a server says about a packet that reached it.
type answer struct {
	host string
	// local is the address that the packet was sent to when it arrived, remote the one it came from.
	local, remote netip.AddrPort
}

func (a answer) String() string { return fmt.Sprintf("%s %s %s", a.host, a.local, a.remote) }

func parseAnswer(text string) (a answer, err error) {
	words := strings.Fields(text)
	if len(words) != 3 {
		return a, fmt.Errorf("%q is no answer", text)
	}
	a.host = words[0]
	if a.local, err = netip.ParseAddrPort(words[1]); err != nil {
		return a, err
	}
	a.remote, err = netip.ParseAddrPort(words[2])
	return a, err
}

// servers answer on some ports of every address of some hosts, with TCP and UDP. SCTP needs no module of the kernel:
// the first packet of a connection is noted under the tag in it, and nothing is sent back.
type servers struct {
	closers []io.Closer
	running sync.WaitGroup

	mu    sync.Mutex
	notes map[uint32]chan answer
}

func serve(ports []uint16, hosts ...*host) (*servers, error) {
	s := &servers{notes: map[uint32]chan answer{}}
	for _, h := range hosts {
		err := h.do(func() error {
			for _, port := range ports {
				if err := errors.Join(s.tcp(h.name, port), s.udp4(h.name, port), s.udp6(h.name, port)); err != nil {
					return err
				}
			}
			return errors.Join(s.sctp4(h.name), s.sctp6(h.name))
		})
		if err != nil {
			s.close()
			return nil, fmt.Errorf("serving on %s: %w", h.name, err)
		}
	}
	return s, nil
}

func (s *servers) close() {
	for _, c := range s.closers {
		_ = c.Close()
	}
	s.running.Wait()
}

// start runs f again and again until it fails, which it does when its socket is closed.
func (s *servers) start(c io.Closer, f func() error) {
	s.closers = append(s.closers, c)
	s.running.Go(func() {
		for {
			if err := f(); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
}

// transparent lets a socket answer from addresses that are only routed here.
func transparent(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1) })
	return errors.Join(err, failed)
}

func (s *servers) tcp(name string, port uint16) error {
	config := net.ListenConfig{Control: transparent}
	listener, err := config.Listen(context.Background(), "tcp", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		return err
	}
	s.start(listener, func() error {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, answer{name, addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())}.String())
		return err
	})
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	p, _ := netip.ParseAddrPort(a.String()) // that of a socket is one
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func (s *servers) udp4(name string, port uint16) error {
	config := net.ListenConfig{Control: transparent}
	conn, err := config.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	p := ipv4.NewPacketConn(conn)
	// Before the first packet is read: a client may be asking already.
	if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return errors.Join(err, conn.Close())
	}
	s.start(conn, func() error {
		_, info, remote, err := p.ReadFrom(make([]byte, 16))
		if err != nil {
			return err
		}
		to, _ := netip.AddrFromSlice(info.Dst.To4())
		_, err = p.WriteTo([]byte(answer{name, netip.AddrPortFrom(to, port), addrPort(remote)}.String()),
			&ipv4.ControlMessage{Src: info.Dst}, remote)
		return err
	})
	return nil
}

func (s *servers) udp6(name string, port uint16) error {
	config := net.ListenConfig{Control: transparent}
	conn, err := config.ListenPacket(context.Background(), "udp6", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(conn)
	// Before the first packet is read: a client may be asking already.
	if err := p.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return errors.Join(err, conn.Close())
	}
	s.start(conn, func() error {
		_, info, remote, err := p.ReadFrom(make([]byte, 16))
		if err != nil {
			return err
		}
		to, _ := netip.AddrFromSlice(info.Dst)
		_, err = p.WriteTo([]byte(answer{name, netip.AddrPortFrom(to, port), addrPort(remote)}.String()),
			&ipv6.ControlMessage{Src: info.Dst}, remote)
		return err
	})
	return nil
}

func (s *servers) sctp4(name string) error {
	conn, err := net.ListenPacket("ip4:sctp", "0.0.0.0")
	if err != nil {
		return err
	}
	p := ipv4.NewPacketConn(conn)
	// Before the first packet is read: a client may be asking already.
	if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return errors.Join(err, conn.Close())
	}
	s.start(conn, func() error {
		packet := make([]byte, 128)
		n, info, remote, err := p.ReadFrom(packet)
		if err == nil {
			s.note(name, info.Dst, remote, packet[:n])
		}
		return err
	})
	return nil
}

func (s *servers) sctp6(name string) error {
	conn, err := net.ListenPacket("ip6:sctp", "::")
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(conn)
	// Before the first packet is read: a client may be asking already.
	if err := p.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return errors.Join(err, conn.Close())
	}
	s.start(conn, func() error {
		packet := make([]byte, 128)
		n, info, remote, err := p.ReadFrom(packet)
		if err == nil {
			s.note(name, info.Dst, remote, packet[:n])
		}
		return err
	})
	return nil
}

// note delivers a packet to whoever expects its tag.
func (s *servers) note(name string, to net.IP, from net.Addr, packet []byte) {
	if len(packet) < sctpInitLength {
		return
	}
	local, _ := netip.AddrFromSlice(to)
	remote, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
	a := answer{
		host:   name,
		local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(packet[2:])),
		remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(packet[0:])),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if expected := s.notes[binary.BigEndian.Uint32(packet[16:])]; expected != nil {
		select {
		case expected <- a:
		default: // it has been noted on another host before
		}
	}
}

// expect returns where the answer to a packet with a tag will be found, and what ends that.
func (s *servers) expect(tag uint32) (<-chan answer, func()) {
	c := make(chan answer, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes[tag] = c
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.notes, tag)
	}
}
