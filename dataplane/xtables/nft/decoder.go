package nft

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// decoder is what encoder does, the other way round: it puts into the words of iptables-save what nf_tables holds. It takes
// nothing for known that encoder would write in another way.
type decoder struct {
	encoder
	// name looks up the set of a number.
	name func(index uint16) (string, error)
}

// decoding is a rule on its way into words.
type decoding struct {
	decoder
	rule     rule
	protocol string
	// loaded is what the last expression has put into the register.
	loaded load
}

// load is what a register holds: what is known of a packet or, where base is set, a piece of it.
type load struct {
	meta         bool
	key          uint32
	base, offset uint32
	length       uint32
	mask         []byte
}

// nowhere is the base of no header.
const nowhere = math.MaxUint32

// decode puts a rule into words. An error wraps ErrUnknown.
func (d decoder) decode(body expressionList, note []byte) (rule, error) {
	r := decoding{decoder: d, loaded: load{base: nowhere}}
	for name, data := range body.all {
		if err := r.expression(name, data); err != nil {
			return r.rule, fmt.Errorf("expression %s: %w", name, err)
		}
	}
	if comment := noteOf(note); comment != "" {
		r.rule.matches = append(r.rule.matches, extension{"comment", []option{{name: "--comment", values: []string{comment}}}})
	}
	return r.rule, known(r.rule.sayable())
}

// sayable says whether every name in a rule is one word, and every comment a text: the kernel takes any bytes for one.
func (r *rule) sayable() bool {
	odd := func(c rune) bool { return c == '"' || c == '\\' || unicode.IsSpace(c) || !unicode.IsPrint(c) }
	oddOption := func(o option) bool {
		return slices.ContainsFunc(o.values, func(v string) bool {
			return !utf8.ValidString(v) || strings.HasPrefix(v, "-") || !o.quoted() && (v == "" || strings.ContainsFunc(v, odd))
		})
	}
	return utf8.ValidString(r.target.name) && !strings.ContainsFunc(r.target.name, odd) && !slices.ContainsFunc(r.header, oddOption) &&
		!slices.ContainsFunc(append(slices.Clip(r.matches), r.target),
			func(e extension) bool { return slices.ContainsFunc(e.options, oddOption) })
}

// quoted says whether values of the option are in quotation marks unless they are plain words.
func (o *option) quoted() bool { return o.name == "--comment" || o.name == "--bytecode" }

// noteOf is the comment in the notes of a rule.
func noteOf(notes []byte) string {
	const header = 2
	for len(notes) >= header {
		kind, length := notes[0], int(notes[1])
		notes = notes[header:]
		if length > len(notes) {
			return ""
		}
		if kind == noteComment {
			return netlink.Text(notes[:length])
		}
		notes = notes[length:]
	}
	return ""
}

// expressionList is NFTA_RULE_EXPRESSIONS.
type expressionList []byte

// all visits expressions in their order, each with its name and what it is told.
func (l expressionList) all(yield func(name string, data []byte) bool) {
	rest := []byte(l)
	for a, ok := netlink.Next(&rest); ok; a, ok = netlink.Next(&rest) {
		var name string
		var data []byte
		netlink.Each(a.Value, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				name = netlink.Text(value)
			case unix.NFTA_EXPR_DATA:
				data = value
			}
		})
		if !yield(name, data) {
			return
		}
	}
}

// leadsTo is the chain that a rule leads to; empty for none.
func (l expressionList) leadsTo() (chain string) {
	for name, data := range l.all {
		if name == "immediate" {
			_, chain = verdictOf(data)
		}
	}
	return chain
}

// fingerprint stands for a rule that cannot be put into words. Counters are not part of it.
func (l expressionList) fingerprint() string {
	h := fnv.New64a()
	for name, data := range l.all {
		if name != "counter" {
			_, _ = h.Write([]byte(name)) // never fails
			_, _ = h.Write(data)
		}
	}
	return fmt.Sprintf(" # %016x", h.Sum64())
}

// fields are the numbers that an expression is told, by attribute, and its nested values.
type fields struct {
	numbers [16]uint32
	there   uint32
	values  [16][]byte
}

func fieldsOf(data []byte) (f fields) {
	netlink.Each(data, func(kind uint16, value []byte) {
		if int(kind) >= len(f.numbers) {
			f.there |= 1 // of no use to anybody here
			return
		}
		f.there |= 1 << kind
		f.values[kind] = value
		if len(value) == 4 {
			f.numbers[kind] = binary.BigEndian.Uint32(value)
		}
	})
	return f
}

// only says whether an expression is told nothing but some attributes.
func (f *fields) only(kinds ...uint16) bool {
	left := f.there
	for _, k := range kinds {
		left &^= 1 << k
	}
	return left == 0
}

// value is NFTA_DATA_VALUE of a nested attribute.
func (f *fields) value(kind uint16) []byte {
	nested := f.values[kind]
	a, ok := netlink.Next(&nested)
	if !ok || a.Kind != unix.NFTA_DATA_VALUE {
		return nil
	}
	return a.Value
}

func (r *decoding) expression(name string, data []byte) error {
	if name == "counter" {
		return nil
	}
	f := fieldsOf(data)
	switch name {
	case "meta":
		r.loaded = load{meta: true, key: f.numbers[unix.NFTA_META_KEY], base: nowhere}
		return known(f.only(unix.NFTA_META_KEY, unix.NFTA_META_DREG))
	case "payload":
		r.loaded = load{base: f.numbers[unix.NFTA_PAYLOAD_BASE], offset: f.numbers[unix.NFTA_PAYLOAD_OFFSET], length: f.numbers[unix.NFTA_PAYLOAD_LEN]}
		return known(f.only(unix.NFTA_PAYLOAD_BASE, unix.NFTA_PAYLOAD_OFFSET, unix.NFTA_PAYLOAD_LEN, unix.NFTA_PAYLOAD_DREG))
	case "bitwise":
		return r.bitwise(&f)
	case "cmp":
		return r.compare(f.numbers[unix.NFTA_CMP_OP], f.value(unix.NFTA_CMP_DATA))
	case "range":
		return r.portsBetween(&f)
	case "match":
		return r.match(data)
	case "target":
		return r.target(data)
	case "immediate":
		return r.verdict(data)
	}
	return ErrUnknown
}

// known is no error, or one.
func known(is bool) error {
	if is {
		return nil
	}
	return ErrUnknown
}

// bitwise keeps the bits of what was loaded that a mask has.
func (r *decoding) bitwise(f *fields) error {
	r.loaded.mask = f.value(unix.NFTA_BITWISE_MASK)
	for _, b := range f.value(unix.NFTA_BITWISE_XOR) {
		if b != 0 {
			return ErrUnknown
		}
	}
	const operation, maskAndXOR = 6, 0 // NFTA_BITWISE_OP, NFT_BITWISE_MASK_XOR
	return known(len(r.loaded.mask) > 0 && f.numbers[operation] == maskAndXOR)
}

// compare asks something of what was loaded.
func (r *decoding) compare(how uint32, with []byte) error {
	not := how == unix.NFT_CMP_NEQ
	switch l := &r.loaded; {
	case l.base == unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		return r.portsTo(how, with)
	case !not && how != unix.NFT_CMP_EQ || len(with) == 0:
	case l.base == unix.NFT_PAYLOAD_NETWORK_HEADER:
		return r.address(not, with)
	case !l.meta:
	case l.key == unix.NFT_META_IIFNAME && l.mask == nil:
		r.ask("-i", not, device(with))
		return nil
	case l.key == unix.NFT_META_OIFNAME && l.mask == nil:
		r.ask("-o", not, device(with))
		return nil
	case l.key == unix.NFT_META_L4PROTO && !not && len(with) == 1 && l.mask == nil:
		return r.ofProtocol(with[0])
	case l.key == unix.NFT_META_MARK && len(with) == 4:
		return r.mark(not, with)
	}
	return ErrUnknown
}

func (r *decoding) ask(name string, not bool, value string) {
	r.rule.header = append(r.rule.header, option{name, not, []string{value}})
}

// device is an interface, or the beginning of the names of some with a plus sign.
func device(name []byte) string {
	if name[len(name)-1] == 0 {
		return netlink.Text(name)
	}
	return string(name) + "+"
}

func (r *decoding) ofProtocol(number uint8) error {
	for _, name := range []string{"tcp", "udp", "sctp"} {
		if n, _ := protocolNumber(name); n == number {
			r.protocol = name
			r.ask("-p", false, name)
			return nil
		}
	}
	return ErrUnknown
}

func (r *decoding) mark(not bool, with []byte) error {
	value := fmt.Sprintf("%#x", binary.NativeEndian.Uint32(with))
	switch mask := r.loaded.mask; {
	case len(mask) == 4:
		value += fmt.Sprintf("/%#x", binary.NativeEndian.Uint32(mask))
	case mask != nil:
		return ErrUnknown
	}
	r.rule.matches = append(r.rule.matches, extension{"mark", []option{{"--mark", not, []string{value}}}})
	return nil
}

// address asks for a source or destination.
func (r *decoding) address(not bool, with []byte) error {
	source, destination, size := uint32(12), uint32(16), 4
	if r.ipv6 {
		source, destination, size = 8, 24, 16
	}
	var name string
	switch r.loaded.offset {
	case source:
		name = "-s"
	case destination:
		name = "-d"
	}
	bits := 8 * len(with)
	if mask := r.loaded.mask; mask != nil {
		bits = ones(mask)
		if len(mask) != size || bits < 0 {
			return ErrUnknown
		}
	}
	if name == "" || len(with) > size || uint32(len(with)) != r.loaded.length {
		return ErrUnknown
	}
	var whole [16]byte
	copy(whole[:], with)
	addr, _ := netip.AddrFromSlice(whole[:size])
	prefix := netip.PrefixFrom(addr, bits)
	r.ask(name, not, prefix.String())
	return known(bits > 0 && prefix == prefix.Masked())
}

// ones is how many bits a mask begins with; negative where it has others too.
func ones(mask []byte) int {
	n := 0
	for i := range 8 * len(mask) {
		if mask[i/8]&(0x80>>(i%8)) == 0 {
			continue
		}
		if n != i {
			return -1
		}
		n++
	}
	return n
}

// portsTo asks for one destination port, or for all up to one.
func (r *decoding) portsTo(how uint32, with []byte) error {
	if !r.destinationPort() || len(with) != 2 {
		return ErrUnknown
	}
	port := binary.BigEndian.Uint16(with)
	switch how {
	case unix.NFT_CMP_EQ:
		r.ports(strconv.Itoa(int(port)))
	case unix.NFT_CMP_LTE:
		r.ports(fmt.Sprintf("0:%d", port))
		return known(port != 0 && port != math.MaxUint16)
	default:
		return ErrUnknown
	}
	return nil
}

// portsBetween asks for destination ports from one to another.
func (r *decoding) portsBetween(f *fields) error {
	from, to := f.value(unix.NFTA_RANGE_FROM_DATA), f.value(unix.NFTA_RANGE_TO_DATA)
	if !r.destinationPort() || len(from) != 2 || len(to) != 2 || f.numbers[unix.NFTA_RANGE_OP] != unix.NFT_RANGE_EQ {
		return ErrUnknown
	}
	first, last := binary.BigEndian.Uint16(from), binary.BigEndian.Uint16(to)
	r.ports(fmt.Sprintf("%d:%d", first, last))
	return known(first != 0 && first < last)
}

func (r *decoding) destinationPort() bool {
	const offset, length = 2, 2
	l := &r.loaded
	return l.base == unix.NFT_PAYLOAD_TRANSPORT_HEADER && l.offset == offset && l.length == length && l.mask == nil &&
		(r.protocol == "tcp" || r.protocol == "udp")
}

func (r *decoding) ports(value string) {
	r.rule.matches = append(r.rule.matches, extension{r.protocol, []option{{"--dport", false, []string{value}}}})
}

// verdict ends a rule.
func (r *decoding) verdict(data []byte) error {
	code, chain := verdictOf(data)
	target := chain
	switch code {
	case unix.NFT_JUMP, unix.NFT_GOTO:
		r.rule.goes = code == unix.NFT_GOTO
	case verdictAccept:
		target = "ACCEPT"
	case verdictDrop:
		target = "DROP"
	case unix.NFT_RETURN:
		target = "RETURN"
	default:
		return ErrUnknown
	}
	r.rule.target = extension{name: target}
	return known(target != "" && len(target) <= longestChain && (chain == "" || !isTarget(chain)))
}

// isTarget says whether words would take a chain for something else.
func isTarget(chain string) bool {
	targets := []string{"ACCEPT", "DROP", "RETURN", "DNAT", "MASQUERADE", "MARK", "REJECT", "SET"}
	return slices.Contains(targets, chain) || strings.HasPrefix(chain, "-")
}

func verdictOf(data []byte) (code int32, chain string) {
	code = math.MaxInt32
	netlink.Each(data, func(kind uint16, value []byte) {
		if kind != unix.NFTA_IMMEDIATE_DATA {
			return
		}
		netlink.Each(value, func(kind uint16, value []byte) {
			if kind != unix.NFTA_DATA_VERDICT {
				return
			}
			netlink.Each(value, func(kind uint16, value []byte) {
				switch {
				case kind == unix.NFTA_VERDICT_CODE && len(value) == 4:
					code = int32(binary.BigEndian.Uint32(value))
				case kind == unix.NFTA_VERDICT_CHAIN:
					chain = netlink.Text(value)
				}
			})
		})
	})
	return code, chain
}
