package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Error is why the kernel refused a request. It wraps Errno.
type Error struct {
	Errno unix.Errno
	// Text is what the kernel says about it in words, if it does (extended acknowledgement, since Linux 4.12).
	Text string
	// Request is what the kernel sent back of the request after struct nlmsghdr. That is mostly nothing, but some
	// subsystems note in it what they did not like.
	Request []byte
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + ": " + e.Text
}

func (e *Error) Unwrap() error { return e.Errno }

// The flags of a message of kind NLMSG_ERROR or NLMSG_DONE, and the attribute with words in it
// (include/uapi/linux/netlink.h).
const (
	flagCapped     = 0x100
	flagAttributes = 0x200
	attrText       = 1
)

// failureIn is the error in a message of kind NLMSG_ERROR or NLMSG_DONE: a negative errno, or 0 for none. In the former
// the request follows, in part at least, and in both there may be attributes at the end.
func failureIn(h header, body []byte) error {
	const sizeofErrno = 4
	if len(body) < sizeofErrno {
		return nil
	}
	errno := -int32(binary.NativeEndian.Uint32(body))
	if errno == 0 {
		return nil
	}
	e := &Error{Errno: unix.Errno(errno)}
	rest := body[sizeofErrno:]
	if h.kind == unix.NLMSG_ERROR && len(rest) >= sizeofHeader {
		length := sizeofHeader
		if h.flags&flagCapped == 0 {
			length = max(sizeofHeader, min(int(binary.NativeEndian.Uint32(rest)), len(rest)))
		}
		e.Request = append(e.Request, rest[sizeofHeader:length]...)
		rest = rest[min(align(length), len(rest)):]
	}
	if h.flags&flagAttributes != 0 {
		Each(rest, func(kind uint16, value []byte) {
			if kind == attrText {
				e.Text = Text(value)
			}
		})
	}
	return e
}
