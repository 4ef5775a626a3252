package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// info is what an extension of xtables is told: a C structure of the kernel's UAPI, in the byte order of the machine.
type info []byte

func (i info) u16(at int, n uint16) { binary.NativeEndian.PutUint16(i[at:], n) }
func (i info) u32(at int, n uint32) { binary.NativeEndian.PutUint32(i[at:], n) }

// xtMatch adds a match of xtables. The size of its structure is a multiple of 8 (XT_ALIGN).
func (x expressions) xtMatch(name string, revision uint32, i info) {
	x.expression("match", func(a *netlink.Attributes) {
		a.String(unix.NFTA_MATCH_NAME, name)
		bigEndian(a, unix.NFTA_MATCH_REV, revision)
		a.Bytes(unix.NFTA_MATCH_INFO, i)
	})
}

// match adds what a match asks of packets.
func (e encoder) match(m extension, protocol string, x expressions) error {
	switch m.name {
	case "comment":
		return comment(m, x)
	case "tcp", "udp":
		if len(m.options) != 1 || !m.options[0].is("--dport", 1) || m.name != protocol {
			break
		}
		return x.ports(m.options[0].values[0])
	case "sctp":
		return sctp(m, protocol, x)
	case "mark":
		return mark(m, x)
	case "statistic":
		return statistic(m, x)
	case "addrtype":
		return addrtype(m, x)
	case "conntrack":
		return conntrack(m, x)
	case "bpf":
		return bpf(m, x)
	case "set":
		return e.set(m, x)
	case "recent":
		return e.recent(m, x)
	}
	return fmt.Errorf("%w: %v", ErrUnknown, m.options)
}

// single is the only option of an extension, which has one value.
func single(x extension, name string) (option, error) {
	if len(x.options) != 1 || x.options[0].name != name || len(x.options[0].values) != 1 {
		return option{}, fmt.Errorf("%w: %v", ErrUnknown, x.options)
	}
	return x.options[0], nil
}

// comment is struct xt_comment_info.
func comment(m extension, x expressions) error {
	const longest = 256 // with a terminating zero
	o, err := single(m, "--comment")
	if err != nil {
		return err
	}
	text := o.values[0]
	if o.not || text == "" || len(text) >= longest || strings.ContainsRune(text, 0) {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	i := make(info, longest)
	copy(i, text)
	x.xtMatch("comment", 0, i)
	return nil
}

// sctp is struct xt_sctp_info.
func sctp(m extension, protocol string, x expressions) error {
	o, err := single(m, "--dport")
	if err != nil {
		return err
	}
	first, last, err := portRange(o.values[0])
	if err != nil || o.not || protocol != "sctp" {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	const size, flagsOfChunks, flags, destinationPorts = 296, 268, 284, 1 << 1
	i := make(info, size)
	i.u16(0, first)
	i.u16(2, last)
	for n := range 4 {
		i[flagsOfChunks+3*n] = 0xff // the type of no chunk
	}
	i.u32(flags, destinationPorts)
	x.xtMatch("sctp", 0, i)
	return nil
}

// mark compares the packet mark.
func mark(m extension, x expressions) error {
	o, err := single(m, "--mark")
	if err != nil {
		return err
	}
	wanted, mask, err := masked(o.values[0])
	if err != nil {
		return err
	}
	x.meta(unix.NFT_META_MARK)
	if mask != math.MaxUint32 {
		x.and(binary.NativeEndian.AppendUint32(nil, mask))
	}
	x.compare(equal(!o.not), binary.NativeEndian.AppendUint32(nil, wanted))
	return nil
}

// masked reads 0x1/0x3. Without a mask every bit counts.
func masked(text string) (number, mask uint32, err error) {
	first, second, both := strings.Cut(text, "/")
	if !both {
		second = "0xffffffff"
	}
	n, err := strconv.ParseUint(first, 0, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: mark %s", ErrUnknown, text)
	}
	k, err := strconv.ParseUint(second, 0, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: mark %s", ErrUnknown, text)
	}
	return uint32(n), uint32(k), nil
}

// statistic is struct xt_statistic_info in mode random, where a probability is a fraction of 2^31.
func statistic(m extension, x expressions) error {
	o := m.options
	if len(o) != 2 || !o[0].is("--mode", 1) || o[0].values[0] != "random" || !o[1].is("--probability", 1) {
		return fmt.Errorf("%w: %v", ErrUnknown, o)
	}
	p, err := strconv.ParseFloat(o[1].values[0], 64)
	if err != nil || !(p >= 0 && p <= 1) {
		return fmt.Errorf("%w: %s", ErrUnknown, o[1])
	}
	const size, one = 24, 1 << 31
	fraction := uint32(math.RoundToEven(p * one))
	i := make(info, size)
	i.u32(4, fraction)
	// iptables puts down here how far the mode nth has counted, whatever the mode is.
	i.u32(12, fraction)
	x.xtMatch("statistic", 0, i)
	return nil
}

// addrtype is struct xt_addrtype_info_v1.
func addrtype(m extension, x expressions) error {
	const size, local = 8, 1 << unix.RTN_LOCAL
	i := make(info, size)
	if len(m.options) != 1 {
		return fmt.Errorf("%w: %v", ErrUnknown, m.options)
	}
	switch o := m.options[0]; {
	case o.is("--src-type", 1) && o.values[0] == "LOCAL":
		i.u16(0, local)
	case o.is("--dst-type", 1) && o.values[0] == "LOCAL":
		i.u16(2, local)
	default:
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	x.xtMatch("addrtype", 1, i)
	return nil
}

// conntrack is struct xt_conntrack_mtinfo3, asked for states.
func conntrack(m extension, x expressions) error {
	o, err := single(m, "--ctstate")
	if err != nil {
		return err
	}
	var states uint16
	for name := range strings.SplitSeq(o.values[0], ",") {
		at := slices.IndexFunc(conntrackStates(), func(s conntrackState) bool { return s.name == name })
		if at < 0 {
			return fmt.Errorf("%w: %s", ErrUnknown, o)
		}
		states |= conntrackStates()[at].bit
	}
	const size, matched, inverted, wanted, state = 168, 146, 148, 150, 1
	i := make(info, size)
	i.u16(matched, state)
	if o.not {
		i.u16(inverted, state)
	}
	i.u16(wanted, states)
	x.xtMatch("conntrack", 3, i)
	return nil
}

type conntrackState struct {
	name string
	bit  uint16
}

// conntrackStates are XT_CONNTRACK_STATE_* in linux/netfilter/xt_conntrack.h, in the order in which iptables prints them.
func conntrackStates() []conntrackState {
	return []conntrackState{
		{"INVALID", 1 << 0}, {"NEW", 1 << 3}, {"RELATED", 1 << 2}, {"ESTABLISHED", 1 << 1}, {"SNAT", 1 << 6}, {"DNAT", 1 << 7},
	}
}

// bpf is struct xt_bpf_info_v1 with classic BPF as bytecode.
func bpf(m extension, x expressions) error {
	o, err := single(m, "--bytecode")
	if err != nil {
		return err
	}
	code := strings.Split(o.values[0], ",")
	const size, header, most, sizeofInstruction = 528, 8, 64, 8
	if n, err := strconv.Atoi(code[0]); err != nil || o.not || n != len(code)-1 || n == 0 || n > most {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	i := make(info, size)
	i.u16(2, uint16(len(code)-1))
	for n, text := range code[1:] {
		at := header + sizeofInstruction*n
		words := strings.Fields(text)
		if len(words) != 4 {
			return fmt.Errorf("%w: instruction %q", ErrUnknown, text)
		}
		var fields [4]uint64
		for k, bits := range [...]int{16, 8, 8, 32} {
			if fields[k], err = strconv.ParseUint(words[k], 10, bits); err != nil {
				return fmt.Errorf("%w: instruction %q", ErrUnknown, text)
			}
		}
		i.u16(at, uint16(fields[0]))
		i[at+2], i[at+3] = byte(fields[1]), byte(fields[2])
		i.u32(at+4, uint32(fields[3]))
	}
	x.xtMatch("bpf", 1, i)
	return nil
}

// set is struct xt_set_info_match_v4.
func (e encoder) set(m extension, x expressions) error {
	const size = 48
	if len(m.options) != 1 || m.options[0].name != "--match-set" || len(m.options[0].values) != 2 {
		return fmt.Errorf("%w: %v", ErrUnknown, m.options)
	}
	o := m.options[0]
	i := make(info, size)
	if err := e.setInfo(i, o.values[0], o.values[1]); err != nil {
		return err
	}
	if o.not {
		i[3] |= 1 // IPSET_INV_MATCH
	}
	x.xtMatch("set", 4, i)
	return nil
}

// setInfo fills struct xt_set_info: a set, and of each dimension whether it is about the source of a packet.
func (e encoder) setInfo(i info, name, directions string) error {
	const mostDimensions = 6
	index, err := e.index(name)
	if err != nil {
		return err
	}
	dimensions := strings.Split(directions, ",")
	if len(dimensions) > mostDimensions {
		return fmt.Errorf("%w: %s", ErrUnknown, directions)
	}
	i.u16(0, index)
	i[2] = byte(len(dimensions))
	for n, d := range dimensions {
		switch d {
		case "src":
			i[3] |= 1 << (n + 1)
		case "dst":
		default:
			return fmt.Errorf("%w: %s", ErrUnknown, directions)
		}
	}
	return nil
}

// recent is struct xt_recent_mtinfo_v1.
func (e encoder) recent(m extension, x expressions) error {
	const size, kinds, name, longestName, side, mask = 232, 8, 10, 200, 210, 212
	const set, update, reap = 1 << 1, 1 << 2, 1 << 5
	i := make(info, size)
	for _, o := range m.options {
		switch {
		case o.is("--set", 0):
			i[kinds] |= set
		case o.is("--update", 0):
			i[kinds] |= update
		case o.is("--reap", 0):
			i[kinds] |= reap
		case o.is("--seconds", 1):
			n, err := strconv.ParseUint(o.values[0], 10, 32)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrUnknown, o)
			}
			i.u32(0, uint32(n))
		case o.is("--name", 1) && len(o.values[0]) < longestName:
			copy(i[name:], o.values[0])
		case o.is("--mask", 1):
			p, err := prefixOf(o.values[0])
			if err != nil || p.Addr().Is6() != e.ipv6 {
				return fmt.Errorf("%w: %s", ErrUnknown, o)
			}
			copy(i[mask:], p.Addr().AsSlice())
		case o.is("--rsource", 0):
			i[side] = 0
		default:
			return fmt.Errorf("%w: %s", ErrUnknown, o)
		}
	}
	if i[kinds]&(set|update) == 0 || i[name] == 0 {
		return fmt.Errorf("%w: %v", ErrUnknown, m.options)
	}
	x.xtMatch("recent", 1, i)
	return nil
}
