package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

const (
	// receiveSize holds the largest datagram of a dump, which is 32 KiB (netlink_dump in net/netlink/af_netlink.c).
	receiveSize = 64 << 10
	// removalsAtOnce are the deletions in one call of sendmsg(2). Should every one of them fail, the errors still fit
	// into the socket's receive buffer.
	removalsAtOnce = 200
)

// kernel is a netlink socket to the connection tracking of a network namespace. It is the socket of mdlayher/socket and
// no more of a library, so that a dump goes through one buffer and each message of a batch gets its own answer.
type kernel struct {
	socket   *socket.Conn
	received []byte
	sequence uint32
}

// openKernel opens a socket in the network namespace of the calling thread.
func openKernel() (*kernel, error) {
	s, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER, "conntrack", nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket to netfilter: %w", err)
	}
	if err := s.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = s.Close() // the first error counts
		return nil, fmt.Errorf("binding a netlink socket to netfilter: %w", err)
	}
	// Leaves our own message out of errors. A kernel that cannot only makes them longer.
	_ = s.SetsockoptInt(unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &kernel{socket: s, received: make([]byte, receiveSize)}, nil
}

func (k *kernel) close() { _ = k.socket.Close() }

// dump has every flow that the kernel reports visited. Where it is not filtered, or the kernel does not know filters,
// those are all flows of the family. It says whether the kernel reported that the dump may have missed some, because the
// table changed shape meanwhile.
func (k *kernel) dump(ctx context.Context, f filter, filtered bool, visit func(*entry)) (interrupted bool, err error) {
	k.sequence++
	var w writer
	w.dump(f, filtered, k.sequence)
	if err := k.send(ctx, w.buffer); err != nil {
		return false, err
	}
	var e entry
	for done := false; !done; {
		err := k.receive(ctx, func(h header, body []byte) error {
			interrupted = interrupted || h.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case h.sequence != k.sequence:
			case h.kind == unix.NLMSG_DONE || h.kind == unix.NLMSG_ERROR:
				done = true
				return errorIn(body)
			case h.kind == messageNew && e.parse(body):
				visit(&e)
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.EINTR) {
			return interrupted, fmt.Errorf("reading flows: %w", err)
		}
		interrupted = interrupted || err != nil
	}
	return interrupted, nil
}

// removals are requests to delete flows.
type removals struct {
	writer
	starts []int // where each request begins
}

func (r *removals) add(e *entry) {
	r.starts = append(r.starts, len(r.buffer))
	r.remove(e, 0, 0)
}

// remove deletes flows and returns how many there were. One that is gone already is no error.
func (k *kernel) remove(ctx context.Context, r *removals) (removed int, err error) {
	for at := 0; at < len(r.starts); at += removalsAtOnce {
		starts := r.starts[at:min(at+removalsAtOnce, len(r.starts))]
		end := len(r.buffer)
		if next := at + len(starts); next < len(r.starts) {
			end = r.starts[next]
		}
		missed, batchErr := k.removeBatch(ctx, r.buffer[:end], starts)
		removed += len(starts) - missed
		err = errors.Join(err, batchErr)
		if ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return removed, fmt.Errorf("deleting flows: %w", err)
	}
	return removed, nil
}

// removeBatch sends requests at once and returns how many of them deleted nothing. Only errors are answered, and the
// last request always, so that it is known when all of them have been carried out.
func (k *kernel) removeBatch(ctx context.Context, buffer []byte, starts []int) (missed int, err error) {
	for _, start := range starts {
		k.sequence++
		binary.NativeEndian.PutUint32(buffer[start+8:], k.sequence)
	}
	last := starts[len(starts)-1]
	binary.NativeEndian.PutUint16(buffer[last+6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := k.send(ctx, buffer[starts[0]:]); err != nil {
		return len(starts), err
	}
	var failed error
	for done := false; !done; {
		err := k.receive(ctx, func(h header, body []byte) error {
			if h.kind != unix.NLMSG_ERROR {
				return nil
			}
			done = done || h.sequence == k.sequence
			if err := errorIn(body); err != nil {
				missed++
				if !errors.Is(err, unix.ENOENT) {
					failed = err
				}
			}
			return nil
		})
		if err != nil {
			return len(starts), err
		}
	}
	return missed, failed
}

func (k *kernel) send(ctx context.Context, messages []byte) error {
	if err := k.socket.Sendto(ctx, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("asking the kernel: %w", err)
	}
	return nil
}

// header is the part of struct nlmsghdr that answers are told apart by.
type header struct {
	kind, flags uint16
	sequence    uint32
}

// receive waits for a datagram and has its messages taken, up to the first error.
func (k *kernel) receive(ctx context.Context, take func(h header, body []byte) error) error {
	n, _, err := k.socket.Recvfrom(ctx, k.received, 0)
	if err != nil {
		return fmt.Errorf("waiting for the kernel: %w", err)
	}
	for rest := k.received[:n]; len(rest) >= sizeofHeader; {
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
		rest = rest[min((length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(rest)):]
	}
	return nil
}

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
