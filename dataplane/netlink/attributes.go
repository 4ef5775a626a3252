package netlink

import (
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
	*a = append(*a, value...)
	*a = append(*a, make([]byte, align(length)-length)...)
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

// Each visits attributes with their types, without the flags for nesting and byte order. What is cut off is passed over.
func Each(attributes []byte, visit func(kind uint16, value []byte)) {
	for len(attributes) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(attributes))
		if length < unix.SizeofNlAttr || length > len(attributes) {
			return
		}
		kind := binary.NativeEndian.Uint16(attributes[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		visit(kind, attributes[unix.SizeofNlAttr:length])
		attributes = attributes[min(align(length), len(attributes)):]
	}
}
