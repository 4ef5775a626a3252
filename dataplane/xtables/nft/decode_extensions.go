package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

func (i info) number16(at int) uint16 { return binary.NativeEndian.Uint16(i[at:]) }
func (i info) number32(at int) uint32 { return binary.NativeEndian.Uint32(i[at:]) }

// compat is a match or a target of xtables in an expression. Their attributes have the same numbers.
type compat struct {
	name     string
	revision uint32
	info     info
}

func compatOf(data []byte) (c compat) {
	netlink.Each(data, func(kind uint16, value []byte) {
		switch {
		case kind == unix.NFTA_MATCH_NAME:
			c.name = netlink.Text(value)
		case kind == unix.NFTA_MATCH_REV && len(value) == 4:
			c.revision = binary.BigEndian.Uint32(value)
		case kind == unix.NFTA_MATCH_INFO:
			c.info = value
		}
	})
	return c
}

func (c compat) equal(d compat) bool {
	return c.name == d.name && c.revision == d.revision && bytes.Equal(c.info, d.info)
}

// long says whether the structure is as long as one that is to be read.
func (c compat) long(size int) bool { return len(c.info) >= size }

// again is what an encoder makes of what was decoded, to be compared with what it was decoded from: a structure has more in it
// than words say.
func again(encode func(x expressions) error) (compat, error) {
	a := make(netlink.Attributes, 0, 1<<9)
	if err := encode(expressions{&a}); err != nil {
		return compat{}, err
	}
	for _, data := range expressionList(a).all {
		return compatOf(data), nil
	}
	return compat{}, ErrUnknown
}

// match puts a match of xtables into words.
func (r *decoding) match(data []byte) error {
	c := compatOf(data)
	options, err := r.optionsOfMatch(c)
	if err != nil {
		return err
	}
	m := extension{c.name, options}
	written, err := again(func(x expressions) error { return r.encoder.match(m, r.protocol, x) })
	if err != nil {
		return err
	}
	r.rule.matches = append(r.rule.matches, m)
	return known(written.equal(c))
}

// target puts a target of xtables into words.
func (r *decoding) target(data []byte) error {
	c := compatOf(data)
	options, err := r.optionsOfTarget(c)
	if err != nil {
		return err
	}
	r.rule.target = extension{c.name, options}
	written, err := again(func(x expressions) error { return r.encoder.target(r.rule, r.protocol, x) })
	if err != nil {
		return err
	}
	return known(written.equal(c))
}

func one(name string, values ...string) []option { return []option{{name: name, values: values}} }

// optionsOfMatch reads what a match asks. Sizes and places are those that the encoder of the match explains.
func (d decoder) optionsOfMatch(c compat) ([]option, error) {
	i := c.info
	switch {
	case c.name == "comment":
		return one("--comment", netlink.Text(i)), nil
	case c.name == "sctp" && c.long(4):
		return one("--dport", portsOf(i.number16(0), i.number16(2))), nil
	case c.name == "statistic" && c.long(8):
		const one31 = 1 << 31
		return append(one("--mode", "random"), one("--probability", fmt.Sprintf("%.11f", float64(i.number32(4))/one31))...), nil
	case c.name == "addrtype" && c.long(8):
		if i.number16(0) != 0 {
			return one("--src-type", "LOCAL"), nil
		}
		return one("--dst-type", "LOCAL"), nil
	case c.name == "conntrack" && c.long(168):
		return statesOf(i), nil
	case c.name == "bpf" && c.long(528):
		return programOf(i)
	case c.name == "set" && c.long(48):
		name, directions, err := d.setOf(i)
		const inverted = 1
		return []option{{"--match-set", i[3]&inverted != 0, []string{name, directions}}}, err
	case c.name == "recent" && c.long(232):
		return d.recentOf(i), nil
	}
	return nil, fmt.Errorf("%w: match %s", ErrUnknown, c.name)
}

func portsOf(first, last uint16) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d:%d", first, last)
}

// statesOf lists states in the order of iptables.
func statesOf(i info) []option {
	const inverted, wanted = 148, 150
	var states []string
	for _, s := range conntrackStates() {
		if i.number16(wanted)&s.bit != 0 {
			states = append(states, s.name)
		}
	}
	return []option{{"--ctstate", i.number16(inverted) != 0, []string{strings.Join(states, ",")}}}
}

func programOf(i info) ([]option, error) {
	const header, sizeofInstruction, most = 8, 8, 64
	n := int(i.number16(2))
	if n > most {
		return nil, ErrUnknown
	}
	code := []string{fmt.Sprint(n)}
	for at := header; at < header+sizeofInstruction*n; at += sizeofInstruction {
		code = append(code, fmt.Sprintf("%d %d %d %d", i.number16(at), i[at+2], i[at+3], i.number32(at+4)))
	}
	return one("--bytecode", strings.Join(code, ",")), nil
}

// setOf reads which set is meant, and of each dimension whether it is about the source.
func (d decoder) setOf(i info) (name, directions string, err error) {
	const mostDimensions = 6
	if i[2] > mostDimensions {
		return "", "", ErrUnknown
	}
	name, err = d.name(i.number16(0))
	var of []string
	for n := range int(i[2]) {
		if i[3]&(1<<(n+1)) != 0 {
			of = append(of, "src")
		} else {
			of = append(of, "dst")
		}
	}
	return name, strings.Join(of, ","), err
}

func (d decoder) recentOf(i info) []option {
	const kinds, name, longestName, mask, set, reap = 8, 10, 200, 212, 1 << 1, 1 << 5
	options := one("--set")
	if i[kinds]&set == 0 {
		options = append(one("--update"), one("--seconds", fmt.Sprint(i.number32(0)))...)
	}
	if i[kinds]&reap != 0 {
		options = append(options, one("--reap")...)
	}
	size := 4
	if d.ipv6 {
		size = 16
	}
	addr, _ := netip.AddrFromSlice(i[mask : mask+size])
	options = append(options, one("--name", netlink.Text(i[name:name+longestName]))...)
	return append(append(options, one("--mask", addr.String())...), one("--rsource")...)
}

// optionsOfTarget reads what a target does.
func (d decoder) optionsOfTarget(c compat) ([]option, error) {
	i := c.info
	switch {
	case c.name == "DNAT" && c.long(48):
		const first, port = 4, 36
		size := 4
		if d.ipv6 {
			size = 16
		}
		addr, _ := netip.AddrFromSlice(i[first : first+size])
		return one("--to-destination", netip.AddrPortFrom(addr, binary.BigEndian.Uint16(i[port:])).String()), nil
	case c.name == "MASQUERADE" && c.long(24):
		flags := i.number32(4)
		if d.ipv6 {
			flags = i.number32(0)
		}
		if flags == 0 {
			return nil, nil
		}
		return one("--random-fully"), nil
	case c.name == "MARK" && c.long(8):
		return one("--set-xmark", fmt.Sprintf("%#x/%#x", i.number32(0), i.number32(4))), nil
	case c.name == "REJECT" && c.long(8):
		for answer, number := range d.answers() {
			if number == i.number32(0) {
				return one("--reject-with", answer), nil
			}
		}
	case c.name == "SET" && c.long(24):
		return d.fillingOf(i)
	}
	return nil, fmt.Errorf("%w: target %s", ErrUnknown, c.name)
}

func (d decoder) fillingOf(i info) ([]option, error) {
	const flags, timeout, exist = 12, 16, 1
	name, directions, err := d.setOf(i)
	options := one("--add-set", name, directions)
	if i.number32(flags)&exist != 0 {
		options = append(options, one("--exist")...)
	}
	if seconds := i.number32(timeout); seconds != math.MaxUint32 {
		options = append(options, one("--timeout", fmt.Sprint(seconds))...)
	}
	return options, err
}

// words is the rule as iptables-save prints it after "-A CHAIN".
func (r *rule) words() string {
	var b strings.Builder
	// This is their order there, and another in nf_tables.
	for _, name := range []string{"-s", "-d", "-i", "-o", "-p"} {
		if at := slices.IndexFunc(r.header, func(o option) bool { return o.name == name }); at >= 0 {
			r.header[at].write(&b)
		}
	}
	for _, m := range r.matches {
		b.WriteString(" -m " + m.name)
		for _, o := range m.options {
			o.write(&b)
		}
	}
	if r.target.name == "" {
		return b.String()
	}
	if r.goes {
		b.WriteString(" -g ")
	} else {
		b.WriteString(" -j ")
	}
	b.WriteString(r.target.name)
	for _, o := range r.target.options {
		o.write(&b)
	}
	return b.String()
}

func (o *option) write(b *strings.Builder) {
	if o.not {
		b.WriteString(" !")
	}
	b.WriteByte(' ')
	b.WriteString(o.name)
	for _, v := range o.values {
		if o.quoted() {
			v = Quote(v)
		}
		b.WriteByte(' ')
		b.WriteString(v)
	}
}
