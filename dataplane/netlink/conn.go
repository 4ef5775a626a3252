package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

const (
	sizeofHeader = unix.SizeofNlMsghdr
	// receiveSize holds the largest datagram of a dump, which is 32 KiB (netlink_dump in net/netlink/af_netlink.c).
	receiveSize = 64 << 10
	// requestsAtOnce go into one call of sendmsg(2). Should every one of them fail, the answers still fit into the socket's
	// receive buffer.
	requestsAtOnce = 200
	// bytesAtOnce bounds what they come to; the socket's send buffer holds more by default (net.core.wmem_default).
	bytesAtOnce = 64 << 10
)

// Conn is a netlink socket in the network namespace that it was opened in. It is not safe for concurrent use.
type Conn struct {
	socket   *socket.Conn
	received []byte
	sequence uint32
	sent     Sent
}

// Sent counts what went to the kernel.
type Sent struct {
	// Messages is the number of requests, Calls that of system calls that carried them.
	Messages, Calls uint64
}

// Request is one message to the kernel: its type, flags besides NLM_F_REQUEST and NLM_F_ACK, and all that follows
// struct nlmsghdr.
type Request struct {
	Type, Flags uint16
	Body        []byte
}

// Open opens a socket of a protocol, such as unix.NETLINK_GENERIC, in the network namespace of the calling thread.
func Open(protocol int) (*Conn, error) {
	s, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, protocol, "netlink", nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	if err := s.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = s.Close() // the first error counts
		return nil, fmt.Errorf("binding a netlink socket: %w", err)
	}
	// Leaves our own message out of errors. A kernel that cannot only makes them longer.
	_ = s.SetsockoptInt(unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &Conn{socket: s, received: make([]byte, receiveSize)}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// Sent is what was sent so far.
func (c *Conn) Sent() Sent { return c.sent }

// Do carries out requests in their order, and returns for each whether it failed: nil, or a unix.Errno. The error says
// that the kernel could not be asked; what became of the requests is not known then.
func (c *Conn) Do(ctx context.Context, requests []Request) ([]error, error) {
	results := make([]error, len(requests))
	for at := 0; at < len(requests); {
		n, err := c.doSome(ctx, requests[at:], results[at:])
		if err != nil {
			return results, err
		}
		at += n
	}
	return results, nil
}

// doSome carries out the first requests, as many as go into one system call. Only errors are answered, and the last request
// always, so that it is known when all of them have been carried out.
func (c *Conn) doSome(ctx context.Context, requests []Request, results []error) (int, error) {
	var buffer []byte
	n, first, last := 0, c.sequence+1, 0
	for n < len(requests) && n < requestsAtOnce && (n == 0 || len(buffer) < bytesAtOnce) {
		c.sequence++
		last = len(buffer)
		buffer = appendRequest(buffer, requests[n], c.sequence)
		n++
	}
	flags := binary.NativeEndian.Uint16(buffer[last+6:])
	binary.NativeEndian.PutUint16(buffer[last+6:], flags|unix.NLM_F_ACK)
	if err := c.send(ctx, buffer, n); err != nil {
		return 0, err
	}
	for done := false; !done; {
		err := c.receive(ctx, func(h header, body []byte) error {
			at := int(h.sequence - first)
			if h.kind == unix.NLMSG_ERROR && at >= 0 && at < n {
				results[at] = errorIn(body)
				done = done || at == n-1
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

func appendRequest(buffer []byte, r Request, sequence uint32) []byte {
	length := sizeofHeader + len(r.Body)
	buffer = binary.NativeEndian.AppendUint32(buffer, uint32(length))
	buffer = binary.NativeEndian.AppendUint16(buffer, r.Type)
	buffer = binary.NativeEndian.AppendUint16(buffer, r.Flags|unix.NLM_F_REQUEST)
	buffer = binary.NativeEndian.AppendUint32(buffer, sequence)
	buffer = binary.NativeEndian.AppendUint32(buffer, 0)
	buffer = append(buffer, r.Body...)
	return append(buffer, make([]byte, align(length)-length)...)
}

// Dump has every message of the answer visited, with its type and all that follows struct nlmsghdr. It says whether the
// kernel reported that some may have been missed, because what it lists changed meanwhile.
func (c *Conn) Dump(ctx context.Context, r Request, visit func(kind uint16, body []byte)) (interrupted bool, err error) {
	c.sequence++
	r.Flags |= unix.NLM_F_DUMP
	if err := c.send(ctx, appendRequest(nil, r, c.sequence), 1); err != nil {
		return false, err
	}
	for done := false; !done; {
		err := c.receive(ctx, func(h header, body []byte) error {
			interrupted = interrupted || h.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case h.sequence != c.sequence:
			case h.kind == unix.NLMSG_DONE || h.kind == unix.NLMSG_ERROR:
				done = true
				return errorIn(body)
			default:
				visit(h.kind, body)
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.EINTR) {
			return interrupted, err
		}
		interrupted = interrupted || err != nil
	}
	return interrupted, nil
}

// Get has the messages of the answer to one request visited.
func (c *Conn) Get(ctx context.Context, r Request, visit func(kind uint16, body []byte)) error {
	c.sequence++
	r.Flags |= unix.NLM_F_ACK
	if err := c.send(ctx, appendRequest(nil, r, c.sequence), 1); err != nil {
		return err
	}
	for done := false; !done; {
		err := c.receive(ctx, func(h header, body []byte) error {
			switch {
			case h.sequence != c.sequence:
			case h.kind == unix.NLMSG_ERROR:
				done = true
				return errorIn(body)
			default:
				visit(h.kind, body)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) send(ctx context.Context, messages []byte, n int) error {
	if err := c.socket.Sendto(ctx, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("asking the kernel: %w", err)
	}
	c.sent.Messages += uint64(n)
	c.sent.Calls++
	return nil
}

// header is the part of struct nlmsghdr that answers are told apart by.
type header struct {
	kind, flags uint16
	sequence    uint32
}

// receive waits for a datagram and has its messages taken, up to the first error.
func (c *Conn) receive(ctx context.Context, take func(h header, body []byte) error) error {
	n, _, err := c.socket.Recvfrom(ctx, c.received, 0)
	if err != nil {
		return fmt.Errorf("waiting for the kernel: %w", err)
	}
	for rest := c.received[:n]; len(rest) >= sizeofHeader; {
		length := int(binary.NativeEndian.Uint32(rest))
		if length < sizeofHeader || length > len(rest) {
			return errors.New("the kernel sent a message that is cut off")
		}
		h := header{
			kind:     binary.NativeEndian.Uint16(rest[4:]),
			flags:    binary.NativeEndian.Uint16(rest[6:]),
			sequence: binary.NativeEndian.Uint32(rest[8:]),
		}
		if err := take(h, rest[sizeofHeader:length]); err != nil {
			return err
		}
		rest = rest[min(align(length), len(rest)):]
	}
	return nil
}

func align(length int) int { return (length + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// errorIn is the error that a message of kind NLMSG_ERROR or NLMSG_DONE carries: a negative errno, or 0 for none.
func errorIn(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
