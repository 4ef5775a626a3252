package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// server is what answers in a pod. A TCP client gets the line "POD CLIENT\n", which names the pod and the client's
// address as the pod sees it, and then whatever it sends back. A UDP client gets "POD CLIENT PAYLOAD" for every
// datagram.
type server struct {
	name  string
	group sync.WaitGroup
	mu    sync.Mutex
	open  map[io.Closer]struct{} // nil once the server is closed
}

// newServer serves TCP and UDP ports on the host's addresses, or those of its node in a pod of the host network. Ports
// of other protocols are there in the API alone.
func newServer(ctx context.Context, name string, h *Host, ports []corev1.ContainerPort) (*server, error) {
	s := &server{name: name, open: map[io.Closer]struct{}{}}
	for _, port := range ports {
		for _, ip := range h.Addresses() {
			if err := s.listen(ctx, h, port.Protocol, netip.AddrPortFrom(ip, uint16(port.ContainerPort))); err != nil {
				s.close()
				return nil, fmt.Errorf("serving port %d of pod %s: %w", port.ContainerPort, name, err)
			}
		}
	}
	return s, nil
}

func (s *server) listen(ctx context.Context, h *Host, protocol corev1.Protocol, address netip.AddrPort) error {
	switch protocol {
	case corev1.ProtocolTCP, "":
		listener, err := h.Listen(ctx, "tcp", address.String())
		if err != nil {
			return err
		}
		s.track(listener)
		s.group.Go(func() { s.accept(listener) })
	case corev1.ProtocolUDP:
		conn, err := h.ListenPacket(ctx, "udp", address.String())
		if err != nil {
			return err
		}
		s.track(conn)
		s.group.Go(func() { s.answer(conn) })
	}
	return nil
}

// track notes what close is to close, and closes it at once if that has happened.
func (s *server) track(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		_ = c.Close()
		return false
	}
	s.open[c] = struct{}{}
	return true
}

func (s *server) untrack(c io.Closer) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *server) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && s.track(conn) {
			s.group.Go(func() { s.echo(conn) })
		}
	}
}

func (s *server) echo(conn net.Conn) {
	defer s.untrack(conn)
	if _, err := fmt.Fprintf(conn, "%s %s\n", s.name, clientOf(conn.RemoteAddr())); err != nil {
		return
	}
	// As io.Copy does, but without a pipe for each connection (splice(2)).
	buffer := make([]byte, 1<<12)
	_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, buffer)
}

func (s *server) answer(conn net.PacketConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, client, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteTo(fmt.Appendf(nil, "%s %s %s", s.name, clientOf(client), buffer[:n]), client)
		}
	}
}

// close closes all sockets and returns when nothing of the server runs any more.
func (s *server) close() {
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
	s.group.Wait()
}

// clientOf writes an address as IP:port, an IPv4 address never as IPv6.
func clientOf(address net.Addr) string {
	parsed, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return strconv.Quote(address.String())
	}
	return netip.AddrPortFrom(parsed.Addr().Unmap(), parsed.Port()).String()
}
