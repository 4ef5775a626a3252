package netlink

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Attributes is a message body that is being written: what comes before the attributes, and then those.
type Attributes []byte

// Bytes adds an attribute as it is.
func (a *Attributes) Bytes(kind uint16, value []byte) {
	length := unix.SizeofNlAttr + len(value)
	*a = binary.NativeEndian.AppendUint16(*a, uint16(length))
	*a = binary.NativeEndian.AppendUint16(*a, kind)
	*a = appendPadding(append(*a, value...), length)
}

// String adds a text with a terminating zero.
func (a *Attributes) String(kind uint16, value string) { a.Bytes(kind, append([]byte(value), 0)) }

// Uint8 adds a byte.
func (a *Attributes) Uint8(kind uint16, value uint8) { a.Bytes(kind, []byte{value}) }

// Uint16 adds a number in the byte order of the machine.
func (a *Attributes) Uint16(kind, value uint16) {
	a.Bytes(kind, binary.NativeEndian.AppendUint16(nil, value))
}

// Uint32 adds a number in the byte order of the machine.
func (a *Attributes) Uint32(kind uint16, value uint32) {
	a.Bytes(kind, binary.NativeEndian.AppendUint32(nil, value))
}

// NetUint16 adds a number in the byte order of the network, and says so in the type.
func (a *Attributes) NetUint16(kind, value uint16) {
	a.Bytes(kind|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint16(nil, value))
}

// NetUint32 adds a number in the byte order of the network, and says so in the type.
func (a *Attributes) NetUint32(kind uint16, value uint32) {
	a.Bytes(kind|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint32(nil, value))
}

// Nested adds an attribute that holds those that fill adds.
func (a *Attributes) Nested(kind uint16, fill func(a *Attributes)) {
	start := len(*a)
	*a = append(*a, make([]byte, unix.SizeofNlAttr)...)
	fill(a)
	binary.NativeEndian.PutUint16((*a)[start:], uint16(len(*a)-start))
	binary.NativeEndian.PutUint16((*a)[start+2:], kind|unix.NLA_F_NESTED)
}

// Attribute is an attribute that is being read (struct nlattr). Its slices point into the message.
type Attribute struct {
	// Kind is its type without the flags for nesting and byte order.
	Kind uint16
	// Value is what it holds, and Whole that with header and padding, as it goes into a message of ours.
	Value, Whole []byte
}

// Next takes the first attribute off those in a buffer. It returns false where the buffer does not hold a whole one.
func Next(buffer *[]byte) (Attribute, bool) {
	b := *buffer
	if len(b) < unix.SizeofNlAttr {
		return Attribute{}, false
	}
	length := int(binary.NativeEndian.Uint16(b))
	if length < unix.SizeofNlAttr || length > len(b) {
		return Attribute{}, false
	}
	padded := min(align(length), len(b))
	*buffer = b[padded:]
	kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	return Attribute{Kind: kind, Value: b[unix.SizeofNlAttr:length], Whole: b[:padded]}, true
}

// Each visits attributes with their types, without the flags for nesting and byte order, up to what is cut off.
func Each(attributes []byte, visit func(kind uint16, value []byte)) {
	for {
		a, ok := Next(&attributes)
		if !ok {
			return
		}
		visit(a.Kind, a.Value)
	}
}

// Text is a text without its terminating zero.
func Text(value []byte) string { return string(bytes.TrimRight(value, "\x00")) }

// align is the length that a header or attribute of some length takes up (NLMSG_ALIGNTO is the same as NLA_ALIGNTO).
func align(length int) int { return (length + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// appendPadding appends what something of a length lacks.
func appendPadding(buffer []byte, length int) []byte {
	for range align(length) - length {
		buffer = append(buffer, 0)
	}
	return buffer
}
