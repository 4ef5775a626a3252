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
	socket            *socket.Conn
	sending, received []byte
	sequence          uint32
	// unfinished says that the end of the last answer is still to be received, because a context ended before.
	unfinished bool
	sent       Sent
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
	// The first leaves our own message out of errors, the second puts words in. A kernel that cannot does without.
	for _, option := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK} {
		_ = s.SetsockoptInt(unix.SOL_NETLINK, option, 1)
	}
	return &Conn{socket: s, received: make([]byte, receiveSize)}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// Sent is what was sent so far.
func (c *Conn) Sent() Sent { return c.sent }

// Do carries out requests in their order, and returns for each that was answered why it failed: nil, or an *Error. Those
// are all of them, unless the kernel could not be asked, which is the second error; what became of the others is not
// known then.
func (c *Conn) Do(ctx context.Context, requests []Request) ([]error, error) {
	results := make([]error, len(requests))
	for at := 0; at < len(requests); {
		if err := c.finish(ctx); err != nil {
			return results[:at], err
		}
		n, err := c.doSome(ctx, requests[at:], results[at:])
		if err != nil {
			return results[:at], err
		}
		at += n
	}
	return results, nil
}

// doSome carries out the first requests, as many as go into one system call. Only errors are answered, and the last request
// always, so that it is known when all of them have been carried out.
func (c *Conn) doSome(ctx context.Context, requests []Request, results []error) (int, error) {
	c.sending = c.sending[:0]
	n, first, last := 0, c.sequence+1, 0
	for n < len(requests) && n < requestsAtOnce && (n == 0 || len(c.sending) < bytesAtOnce) {
		last = len(c.sending)
		c.append(requests[n])
		n++
	}
	flags := binary.NativeEndian.Uint16(c.sending[last+6:])
	binary.NativeEndian.PutUint16(c.sending[last+6:], flags|unix.NLM_F_ACK)
	if err := c.send(ctx, c.sending, n); err != nil {
		return 0, err
	}
	for done := false; !done; {
		err := c.receive(ctx, func(h header, body []byte) error {
			at := int(h.sequence - first)
			if h.kind == unix.NLMSG_ERROR && at >= 0 && at < n {
				results[at] = failureIn(h, body)
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

// append adds a message to those that are sent next.
func (c *Conn) append(r Request) {
	c.sequence++
	length := sizeofHeader + len(r.Body)
	b := binary.NativeEndian.AppendUint32(c.sending, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, r.Type)
	b = binary.NativeEndian.AppendUint16(b, r.Flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, c.sequence)
	b = binary.NativeEndian.AppendUint32(b, 0) // port of the kernel
	c.sending = appendPadding(append(b, r.Body...), length)
}

// Dump has every message of the answer visited, with its type and all that follows struct nlmsghdr, which is good until
// visit returns. It says whether the kernel reported that some may have been missed, because what it lists changed
// meanwhile.
func (c *Conn) Dump(ctx context.Context, r Request, visit func(kind uint16, body []byte)) (interrupted bool, err error) {
	r.Flags |= unix.NLM_F_DUMP
	interrupted, err = c.ask(ctx, r, visit)
	if errors.Is(err, unix.EINTR) { // the kernel's other way to say so
		return true, nil
	}
	return interrupted, err
}

// Get has the messages of the answer to one request visited, like Dump.
func (c *Conn) Get(ctx context.Context, r Request, visit func(kind uint16, body []byte)) error {
	r.Flags |= unix.NLM_F_ACK
	_, err := c.ask(ctx, r, visit)
	return err
}

// ask sends a request whose answer ends with NLMSG_DONE or NLMSG_ERROR.
func (c *Conn) ask(ctx context.Context, r Request, visit func(kind uint16, body []byte)) (interrupted bool, err error) {
	if err := c.finish(ctx); err != nil {
		return false, err
	}
	c.sending = c.sending[:0]
	c.append(r)
	if err := c.send(ctx, c.sending, 1); err != nil {
		return false, err
	}
	c.unfinished = true
	for c.unfinished {
		err := c.receive(ctx, func(h header, body []byte) error {
			if h.sequence != c.sequence {
				return nil
			}
			interrupted = interrupted || h.flags&unix.NLM_F_DUMP_INTR != 0
			if h.ends() {
				c.unfinished = false
				return failureIn(h, body)
			}
			visit(h.kind, body)
			return nil
		})
		if err != nil {
			return interrupted, err
		}
	}
	return interrupted, nil
}

// finish receives what is left of an answer. Before that the kernel does not begin to list anything else.
func (c *Conn) finish(ctx context.Context) error {
	for c.unfinished {
		err := c.receive(ctx, func(h header, _ []byte) error {
			c.unfinished = c.unfinished && (h.sequence != c.sequence || !h.ends())
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// send sends n messages.
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

// ends says whether no more messages follow that answer the same request.
func (h header) ends() bool { return h.kind == unix.NLMSG_DONE || h.kind == unix.NLMSG_ERROR }

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
