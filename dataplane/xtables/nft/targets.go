package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// What netfilter calls the two verdicts that end a packet's way through a hook (linux/netfilter.h).
const (
	verdictDrop   = 0
	verdictAccept = 1
)

// xtTarget adds a target of xtables. The size of its structure is a multiple of 8 (XT_ALIGN).
func (x expressions) xtTarget(name string, revision uint32, i info) {
	x.expression("target", func(a *netlink.Attributes) {
		a.String(unix.NFTA_TARGET_NAME, name)
		bigEndian(a, unix.NFTA_TARGET_REV, revision)
		a.Bytes(unix.NFTA_TARGET_INFO, i)
	})
}

// target adds what becomes of packets that a rule matches.
func (e encoder) target(r rule, protocol string, x expressions) error {
	t := r.target
	if r.goes {
		return chain(t, unix.NFT_GOTO, x)
	}
	switch t.name {
	case "":
		return nil
	case "ACCEPT", "DROP", "RETURN":
		if len(t.options) > 0 {
			return fmt.Errorf("%w: %v", ErrUnknown, t.options)
		}
		x.verdict(map[string]int32{"ACCEPT": verdictAccept, "DROP": verdictDrop, "RETURN": unix.NFT_RETURN}[t.name], "")
		return nil
	case "DNAT":
		return e.dnat(t, protocol, x)
	case "MASQUERADE":
		return e.masquerade(t, x)
	case "MARK":
		return setMark(t, x)
	case "REJECT":
		return e.reject(t, protocol, x)
	case "SET":
		return e.fillSet(t, x)
	}
	return chain(t, unix.NFT_JUMP, x)
}

// longestChain is how long the name of a chain of iptables may be (XT_EXTENSION_MAXNAMELEN without a terminating zero).
const longestChain = 28

// chain leads to a chain. A target that this package does not know is taken for one, which the kernel then does not have.
func chain(t extension, code int32, x expressions) error {
	if len(t.options) > 0 || t.name == "" || len(t.name) > longestChain {
		return fmt.Errorf("%w: %v", ErrUnknown, t)
	}
	x.verdict(code, t.name)
	return nil
}

// How addresses and ports are translated: NF_NAT_RANGE_* in linux/netfilter/nf_nat.h.
const (
	mapAddresses      = 1 << 0
	mapPorts          = 1 << 1
	randomPortsWholly = 1 << 4
)

// dnat is struct nf_nat_range2 with one address and one port.
func (e encoder) dnat(t extension, protocol string, x expressions) error {
	o, err := single(t, "--to-destination")
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(o.values[0])
	if err != nil || o.not || to.Addr().Is6() != e.ipv6 || to.Addr().Zone() != "" || to.Port() == 0 || protocol == "" {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	const size, first, last, firstPort, lastPort = 48, 4, 20, 36, 38
	i := make(info, size)
	i.u32(0, mapAddresses|mapPorts)
	copy(i[first:], to.Addr().AsSlice())
	copy(i[last:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(i[firstPort:], to.Port())
	binary.BigEndian.PutUint16(i[lastPort:], to.Port())
	x.xtTarget("DNAT", 2, i)
	return nil
}

// masquerade is struct nf_nat_ipv4_multi_range_compat, or struct nf_nat_range for IPv6.
func (e encoder) masquerade(t extension, x expressions) error {
	var flags uint32
	for _, o := range t.options {
		if !o.is("--random-fully", 0) {
			return fmt.Errorf("%w: %s", ErrUnknown, o)
		}
		flags = randomPortsWholly
	}
	if e.ipv6 {
		i := make(info, 40)
		i.u32(0, flags)
		x.xtTarget("MASQUERADE", 0, i)
		return nil
	}
	i := make(info, 24)
	i.u32(0, 1) // one range
	i.u32(4, flags)
	x.xtTarget("MASQUERADE", 0, i)
	return nil
}

// setMark is struct xt_mark_tginfo2.
func setMark(t extension, x expressions) error {
	o, err := single(t, "--set-xmark")
	if err != nil {
		return err
	}
	bits, mask, err := masked(o.values[0])
	if err != nil || o.not {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	i := make(info, 8)
	i.u32(0, bits)
	i.u32(4, mask)
	x.xtTarget("MARK", 2, i)
	return nil
}

// reject is struct ipt_reject_info, or struct ip6t_reject_info.
func (e encoder) reject(t extension, protocol string, x expressions) error {
	o, err := single(t, "--reject-with")
	if err != nil {
		return err
	}
	answer, known := e.answers()[o.values[0]]
	if !known || o.not || o.values[0] == "tcp-reset" && protocol != "tcp" {
		return fmt.Errorf("%w: %s", ErrUnknown, o)
	}
	i := make(info, 8)
	i.u32(0, answer)
	x.xtTarget("REJECT", 0, i)
	return nil
}

// answers are enum ipt_reject_with and ip6t_reject_with.
func (e encoder) answers() map[string]uint32 {
	if e.ipv6 {
		return map[string]uint32{"icmp6-port-unreachable": 4, "tcp-reset": 6}
	}
	return map[string]uint32{"icmp-port-unreachable": 3, "tcp-reset": 7}
}

// fillSet is struct xt_set_info_target_v3, for putting something into a set.
func (e encoder) fillSet(t extension, x expressions) error {
	const size, add, remove, lookUp, flags, timeout, sizeofSet, noSet, exist = 24, 0, 4, 8, 12, 16, 4, math.MaxUint16, 1
	i := make(info, size)
	for _, at := range []int{add, remove, lookUp} {
		i.u16(at, noSet)
	}
	i.u32(timeout, math.MaxUint32) // what the set says
	for _, o := range t.options {
		switch {
		case o.is("--add-set", 2):
			if err := e.setInfo(i[add:add+sizeofSet], o.values[0], o.values[1]); err != nil {
				return err
			}
		case o.is("--exist", 0):
			i.u32(flags, exist)
		case o.is("--timeout", 1):
			seconds, err := strconv.ParseUint(o.values[0], 10, 32)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrUnknown, o)
			}
			i.u32(timeout, uint32(seconds))
		default:
			return fmt.Errorf("%w: %s", ErrUnknown, o)
		}
	}
	if i[2] == 0 {
		return fmt.Errorf("%w: %v", ErrUnknown, t.options)
	}
	x.xtTarget("SET", 3, i)
	return nil
}
