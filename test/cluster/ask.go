package cluster

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// askTimeout is how long Ask waits for an answer when its context says nothing.
const askTimeout = 5 * time.Second

// question is what Ask sends in a datagram.
const question = "?"

// Reply is what a pod's server answered.
type Reply struct {
	// Pod is the name of the pod.
	Pod string
	// Client is who the pod thinks it is talking to.
	Client netip.AddrPort
}

// Ask opens a connection ("tcp") or sends one datagram ("udp") to IP:port, reads which pod answers, and closes. Without
// a deadline in ctx it waits five seconds. A datagram is not sent again: an answer that does not come is an error.
func (h *Host) Ask(ctx context.Context, network, address string) (Reply, error) {
	return h.AskFrom(ctx, network, address, 0)
}

// AskFrom is Ask from a port of the host; from any when it is 0.
func (h *Host) AskFrom(ctx context.Context, network, address string, port uint16) (Reply, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askTimeout)
		defer cancel()
	}
	conn, err := h.DialFrom(ctx, network, address, port)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = conn.Close() }()
	return Greeting(ctx, conn)
}

// Greeting reads on a new connection from Dial which pod answers. The connection stays open; what is written to one over
// TCP from then on comes back.
func Greeting(ctx context.Context, conn net.Conn) (Reply, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := greetingLine(conn)
	if err != nil {
		return Reply{}, fmt.Errorf("reading who answers at %s: %w", conn.RemoteAddr(), err)
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return Reply{}, fmt.Errorf("whoever answers at %s is no pod: it said %q", conn.RemoteAddr(), line)
	}
	client, err := netip.ParseAddrPort(fields[1])
	if err != nil {
		return Reply{}, fmt.Errorf("whoever answers at %s is no pod: it said %q", conn.RemoteAddr(), line)
	}
	return Reply{Pod: fields[0], Client: client}, nil
}

// greetingLine reads the first line, or the answer to a datagram. The server sends no more than that unasked, so
// nothing is lost in the buffer.
func greetingLine(conn net.Conn) (string, error) {
	if _, isDatagram := conn.(*net.UDPConn); !isDatagram {
		return bufio.NewReader(conn).ReadString('\n')
	}
	if _, err := conn.Write([]byte(question)); err != nil {
		return "", err
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}
