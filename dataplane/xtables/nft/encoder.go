package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// ErrUnknown is wrapped by errors that say that a rule is none that this package can write.
var ErrUnknown = errors.New("not known to be written by netlink")

// encoder makes expressions of nf_tables of rules, in the order and form of iptables-nft: what an expression of nf_tables
// can say natively, and what only an extension of xtables can (nft_compat).
type encoder struct {
	ipv6 bool
	// index looks up the number of a set.
	index func(set string) (uint16, error)
}

// expressions are those of a rule that is being written.
type expressions struct{ *netlink.Attributes }

// protocolNumber is the number of a protocol that rules name.
func protocolNumber(name string) (uint8, bool) {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP, true
	case "udp":
		return unix.IPPROTO_UDP, true
	case "sctp":
		return unix.IPPROTO_SCTP, true
	}
	return 0, false
}

// encode adds what the kernel is told of a rule: its expressions, the protocol that extensions may insist on, and a comment.
func (e encoder) encode(text string, a *netlink.Attributes) error {
	r, err := parse(text)
	if err != nil {
		return err
	}
	note := r.cutNote()
	var protocol string
	a.Nested(unix.NFTA_RULE_EXPRESSIONS, func(a *netlink.Attributes) {
		x := expressions{a}
		if protocol, err = e.header(r.header, x); err != nil {
			return
		}
		for _, m := range r.matches {
			if err = e.match(m, protocol, x); err != nil {
				err = fmt.Errorf("match %s: %w", m.name, err)
				return
			}
		}
		x.counter()
		if err = e.target(r, protocol, x); err != nil {
			err = fmt.Errorf("target %s: %w", r.target.name, err)
		}
	})
	if err != nil {
		return err
	}
	number, _ := protocolNumber(protocol) // 0 where there is none
	a.Nested(unix.NFTA_RULE_COMPAT, func(a *netlink.Attributes) {
		bigEndian(a, unix.NFTA_RULE_COMPAT_PROTO, uint32(number))
		bigEndian(a, unix.NFTA_RULE_COMPAT_FLAGS, 0)
	})
	if note != "" {
		a.Bytes(unix.NFTA_RULE_USERDATA, append([]byte{noteComment, byte(len(note) + 1)}, note+"\x00"...))
	}
	return nil
}

// A rule can carry a note for programs (UDATA_TYPE_COMMENT in iptables/nft.c and NFTNL_UDATA_RULE_COMMENT in libnftnl): its kind,
// its length, and a text with a terminating zero.
const (
	noteComment = 0
	longestNote = 254
)

// cutNote takes a comment off a rule that can be its note, which costs its length, and once. As a match, which is what
// iptables-nft makes of it, it costs more than all else of a rule: 256 bytes and a step on the way of every packet. iptables
// shows both alike, where the comment comes after all matches.
func (r *rule) cutNote() string {
	last := len(r.matches) - 1
	if last < 0 || r.matches[last].name != "comment" {
		return ""
	}
	o, err := single(r.matches[last], "--comment")
	if err != nil || o.not || o.values[0] == "" || len(o.values[0]) > longestNote || strings.ContainsRune(o.values[0], 0) {
		return "" // for the match to take, or to say what is wrong
	}
	r.matches = r.matches[:last]
	return o.values[0]
}

// header adds what a rule asks of interfaces, protocol and addresses, in this order, and returns the protocol.
func (e encoder) header(options []option, x expressions) (protocol string, err error) {
	asked := map[string]option{}
	for _, o := range options {
		if _, twice := asked[o.name]; twice || len(o.values) != 1 || !strings.Contains(" -i -o -p -s -d ", " "+o.name+" ") {
			return "", fmt.Errorf("%w: %s", ErrUnknown, o)
		}
		asked[o.name] = o
	}
	for _, device := range []struct {
		name string
		key  uint32
	}{{"-i", unix.NFT_META_IIFNAME}, {"-o", unix.NFT_META_OIFNAME}} {
		if o, ok := asked[device.name]; ok {
			if err := x.device(device.key, o); err != nil {
				return "", err
			}
		}
	}
	if o, ok := asked["-p"]; ok {
		number, known := protocolNumber(o.values[0])
		if !known || o.not {
			return "", fmt.Errorf("%w: %s", ErrUnknown, o)
		}
		protocol = o.values[0]
		x.meta(unix.NFT_META_L4PROTO)
		x.compare(unix.NFT_CMP_EQ, []byte{number})
	}
	source, destination, size := uint32(12), uint32(16), 4
	if e.ipv6 {
		source, destination, size = 8, 24, 16
	}
	for _, at := range []struct {
		name   string
		offset uint32
	}{{"-s", source}, {"-d", destination}} {
		if o, ok := asked[at.name]; ok {
			if err := x.address(at.offset, size, o); err != nil {
				return "", err
			}
		}
	}
	return protocol, nil
}

// device asks for an interface, or for those that begin with a name when a plus sign follows it.
func (x expressions) device(key uint32, o option) error {
	name, beginning := strings.CutSuffix(o.values[0], "+")
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	value := []byte(name)
	if !beginning {
		value = append(value, 0)
	}
	x.meta(key)
	x.compare(equal(!o.not), value)
	return nil
}

// address asks for a source or destination, which is at an offset in the IP header.
func (x expressions) address(offset uint32, size int, o option) error {
	p, err := prefixOf(o.values[0])
	if err != nil || p.Addr().BitLen() != 8*size || p != p.Masked() || p.Bits() == 0 {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	value := p.Addr().AsSlice()
	if p.Bits()%8 == 0 {
		value = value[:p.Bits()/8]
		x.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, uint32(len(value)))
	} else {
		x.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, uint32(size))
		mask := make([]byte, size)
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		x.and(mask)
	}
	x.compare(equal(!o.not), value)
	return nil
}

func prefixOf(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return addr.Prefix(addr.BitLen())
}

// ports asks for a destination port or a range of them, in the header of TCP or UDP.
func (x expressions) ports(text string) error {
	const offset, length, lowest, highest = 2, 2, 0, 65535
	first, last, err := portRange(text)
	if err != nil || first == lowest && last == highest {
		return fmt.Errorf("%w: ports %s", ErrUnknown, text)
	}
	x.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, length)
	from, to := binary.BigEndian.AppendUint16(nil, first), binary.BigEndian.AppendUint16(nil, last)
	switch first {
	case last:
		x.compare(unix.NFT_CMP_EQ, from)
	case lowest:
		x.compare(unix.NFT_CMP_LTE, to)
	default:
		x.expression("range", func(a *netlink.Attributes) {
			bigEndian(a, unix.NFTA_RANGE_SREG, unix.NFT_REG_1)
			bigEndian(a, unix.NFTA_RANGE_OP, unix.NFT_RANGE_EQ)
			value(a, unix.NFTA_RANGE_FROM_DATA, from)
			value(a, unix.NFTA_RANGE_TO_DATA, to)
		})
	}
	return nil
}

// portRange reads 80, or 80:90.
func portRange(text string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(text, ":")
	if !isRange {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 16)
	if err != nil {
		return 0, 0, err
	}
	b, err := strconv.ParseUint(to, 10, 16)
	if err == nil && a > b {
		err = fmt.Errorf("%s is no range", text)
	}
	return uint16(a), uint16(b), err
}

// expression adds one expression.
func (x expressions) expression(name string, fill func(a *netlink.Attributes)) {
	x.Nested(unix.NFTA_LIST_ELEM, func(a *netlink.Attributes) {
		a.String(unix.NFTA_EXPR_NAME, name)
		a.Nested(unix.NFTA_EXPR_DATA, fill)
	})
}

// meta loads something that the kernel knows of a packet.
func (x expressions) meta(key uint32) {
	x.expression("meta", func(a *netlink.Attributes) {
		bigEndian(a, unix.NFTA_META_KEY, key)
		bigEndian(a, unix.NFTA_META_DREG, unix.NFT_REG_1)
	})
}

// payload loads a piece of a packet.
func (x expressions) payload(base, offset, length uint32) {
	x.expression("payload", func(a *netlink.Attributes) {
		bigEndian(a, unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1)
		bigEndian(a, unix.NFTA_PAYLOAD_BASE, base)
		bigEndian(a, unix.NFTA_PAYLOAD_OFFSET, offset)
		bigEndian(a, unix.NFTA_PAYLOAD_LEN, length)
	})
}

// and keeps those bits of what was loaded that are set in a mask.
func (x expressions) and(mask []byte) {
	x.expression("bitwise", func(a *netlink.Attributes) {
		bigEndian(a, unix.NFTA_BITWISE_SREG, unix.NFT_REG_1)
		bigEndian(a, unix.NFTA_BITWISE_DREG, unix.NFT_REG_1)
		bigEndian(a, unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		value(a, unix.NFTA_BITWISE_MASK, mask)
		value(a, unix.NFTA_BITWISE_XOR, make([]byte, len(mask)))
	})
}

// compare goes on only with packets of which that is true that was loaded.
func (x expressions) compare(how uint32, with []byte) {
	x.expression("cmp", func(a *netlink.Attributes) {
		bigEndian(a, unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		bigEndian(a, unix.NFTA_CMP_OP, how)
		value(a, unix.NFTA_CMP_DATA, with)
	})
}

func equal(yes bool) uint32 {
	if yes {
		return unix.NFT_CMP_EQ
	}
	return unix.NFT_CMP_NEQ
}

// counter counts packets and bytes, as every rule of iptables does.
func (x expressions) counter() {
	x.expression("counter", func(a *netlink.Attributes) {
		a.Bytes(unix.NFTA_COUNTER_BYTES, make([]byte, 8))
		a.Bytes(unix.NFTA_COUNTER_PACKETS, make([]byte, 8))
	})
}

// verdict ends a rule: with a code, and with a chain where the code leads to one.
func (x expressions) verdict(code int32, chain string) {
	x.expression("immediate", func(a *netlink.Attributes) {
		bigEndian(a, unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		a.Nested(unix.NFTA_IMMEDIATE_DATA, func(a *netlink.Attributes) {
			a.Nested(unix.NFTA_DATA_VERDICT, func(a *netlink.Attributes) {
				bigEndian(a, unix.NFTA_VERDICT_CODE, uint32(code))
				if chain != "" {
					a.String(unix.NFTA_VERDICT_CHAIN, chain)
				}
			})
		})
	})
}

// value adds a value to be compared or combined with a register.
func value(a *netlink.Attributes, kind uint16, v []byte) {
	a.Nested(kind, func(a *netlink.Attributes) { a.Bytes(unix.NFTA_DATA_VALUE, v) })
}

// bigEndian adds a number as nf_tables wants it: in the byte order of the network, without a flag in the type that says so.
func bigEndian(a *netlink.Attributes, kind uint16, n uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	a.Bytes(kind, b[:])
}
