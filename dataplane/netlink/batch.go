package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Batch is requests to one subsystem of nfnetlink that the kernel carries out all together or not at all
// (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c).
type Batch struct {
	buffer    []byte
	count     int
	subsystem uint16
}

// Refusal is why the kernel did not carry out a batch, and wraps an *Error.
type Refusal struct {
	// At is the first request that the kernel refused, counted from 0; negative where it is none of them.
	At  int
	Err error
}

func (r *Refusal) Error() string { return r.Err.Error() }

func (r *Refusal) Unwrap() error { return r.Err }

// The ends of a batch: NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END in linux/netfilter/nfnetlink.h.
const (
	batchBegins = unix.NLMSG_MIN_TYPE
	batchEnds   = unix.NLMSG_MIN_TYPE + 1
)

// NewBatch begins a batch for a subsystem such as unix.NFNL_SUBSYS_NFTABLES.
func NewBatch(subsystem uint16) *Batch {
	b := &Batch{subsystem: subsystem}
	b.append(batchBegins, 0, unix.AF_UNSPEC, subsystem, nil)
	return b
}

// Len is the number of requests.
func (b *Batch) Len() int { return b.count }

// Size is what the requests take up, in bytes.
func (b *Batch) Size() int { return len(b.buffer) }

// Append adds a request: its type within the subsystem, flags besides NLM_F_REQUEST, the family that it is about, and the
// attributes that fill adds.
func (b *Batch) Append(kind, flags uint16, family uint8, fill func(a *Attributes)) {
	b.append(b.subsystem<<8|kind, flags, family, 0, fill)
	b.count++
}

func (b *Batch) append(kind, flags uint16, family uint8, resource uint16, fill func(a *Attributes)) {
	start := len(b.buffer)
	a := Attributes(append(b.buffer, make([]byte, sizeofHeader)...))
	a = binary.BigEndian.AppendUint16(append(a, family, unix.NFNETLINK_V0), resource)
	if fill != nil {
		fill(&a)
	}
	header := a[start:]
	binary.NativeEndian.PutUint32(header, uint32(len(header)))
	binary.NativeEndian.PutUint16(header[4:], kind)
	binary.NativeEndian.PutUint16(header[6:], flags|unix.NLM_F_REQUEST)
	b.buffer = a
}

// seal numbers the messages from first on, has the last request answered, and ends the batch. It leaves the batch as it
// was and returns all that is to be sent.
func (b *Batch) seal(first uint32) []byte {
	at, last := 0, 0
	for n := first; at < len(b.buffer); n++ {
		binary.NativeEndian.PutUint32(b.buffer[at+8:], n)
		last = at
		at += align(int(binary.NativeEndian.Uint32(b.buffer[at:])))
	}
	flags := binary.NativeEndian.Uint16(b.buffer[last+6:])
	binary.NativeEndian.PutUint16(b.buffer[last+6:], flags|unix.NLM_F_ACK)
	sealed := *b
	sealed.append(batchEnds, 0, unix.AF_UNSPEC, b.subsystem, nil)
	b.buffer = sealed.buffer[:len(b.buffer)] // which may have moved
	return sealed.buffer
}

// Commit carries out a batch. A *Refusal says that the kernel did nothing of it; after any other error it may have.
func (c *Conn) Commit(ctx context.Context, b *Batch) error {
	if b.count == 0 {
		return nil
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	first := c.sequence + 1
	c.sequence += uint32(b.count) + 2 // with both ends
	sealed := b.seal(first)
	// The kernel takes a batch as one datagram only. Where it does not let us have the room, sending fails.
	_ = c.socket.SetsockoptInt(unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(sealed)+bytesAtOnce)
	if err := c.send(ctx, sealed, b.count+2); err != nil {
		return err
	}
	var refusal *Refusal
	for done := false; !done; {
		err := c.receive(ctx, func(h header, body []byte) error {
			at := int(int32(h.sequence-first)) - 1
			if h.kind != unix.NLMSG_ERROR || at < -1 || at >= b.count {
				return nil
			}
			err := failureIn(h, body)
			// What ends the whole batch is reported for its beginning, and about the requests nothing may follow.
			done = done || at == b.count-1 || at == -1 && err != nil
			if err != nil && (refusal == nil || refusal.At < 0) {
				refusal = &Refusal{At: at, Err: err}
			}
			return nil
		})
		if errors.Is(err, unix.ENOBUFS) {
			return &Refusal{At: -1, Err: fmt.Errorf("the kernel refused too many requests to say which: %w", err)}
		}
		if err != nil {
			return err
		}
	}
	if refusal != nil {
		return refusal
	}
	return nil
}
