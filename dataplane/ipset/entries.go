package ipset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	vishvananda "github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// Kind is what the entries of a set consist of.
type Kind int

// The kinds, with their types in ipset(8).
const (
	// Addr is an address: hash:ip.
	Addr Kind = iota
	// AddrPort is an address, protocol and port: hash:ip,port.
	AddrPort
	// AddrPortMark is the same, and gives a packet a mark: hash:ip,port with skbinfo.
	AddrPortMark
	// AddrPortNet is an address, protocol and port, and a network: hash:ip,port,net.
	AddrPortNet
)

func (k Kind) typeName() string {
	return [...]string{Addr: "hash:ip", AddrPort: "hash:ip,port", AddrPortMark: "hash:ip,port", AddrPortNet: "hash:ip,port,net"}[k]
}

// Set is a set of one family.
type Set struct {
	// Name is at most 31 characters long (IPSET_MAXNAMELEN).
	Name string
	Kind Kind
	IPv6 bool
}

// Entry is an element of a set. Fields that the kind of the set does not have are zero.
type Entry struct {
	Addr     netip.Addr
	Protocol uint8
	Port     uint16
	Net      netip.Prefix
	// Mark is what the bits in Mask of a packet's mark become, where a rule asks for it (SET --map-mark).
	Mark, Mask uint32
}

// String is the entry in the words of ipset(8).
func (e Entry) String() string {
	text := e.Addr.String()
	if e.Protocol != 0 {
		text += fmt.Sprintf(",%d:%d", e.Protocol, e.Port)
	}
	if e.Net.IsValid() {
		text += "," + e.Net.String()
	}
	return text
}

// Kernel is the sets of a network namespace. It is not safe for concurrent use.
type Kernel struct{ conn *netlink.Conn }

// Open opens the sets of the network namespace of the calling thread.
func Open() (*Kernel, error) {
	conn, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("asking for sets: %w", err)
	}
	return &Kernel{conn}, nil
}

// Close ends it. The sets stay.
func (k *Kernel) Close() error { return k.conn.Close() }

// Sent is what was sent to the kernel so far.
func (k *Kernel) Sent() netlink.Sent { return k.conn.Sent() }

// Make makes a set if there is none of its name.
func (k *Kernel) Make(ctx context.Context, s Set) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	options := vishvananda.IpsetCreateOptions{
		Replace: true, Family: unix.AF_INET, MaxElements: maxElements, Skbinfo: s.Kind == AddrPortMark,
	}
	if s.IPv6 {
		options.Family = unix.AF_INET6
	}
	err := vishvananda.IpsetCreate(s.Name, s.Kind.typeName(), options)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making the set %s: there is one of another kind; remove it with 'ipset destroy %s' when no rule refers to it", s.Name, s.Name)
	}
	if err != nil {
		return fmt.Errorf("making the set %s: %w", s.Name, err)
	}
	return nil
}

// entriesAtOnce go into one message. The kernel does not take more than 64 KiB of them, and holds a lock meanwhile.
const entriesAtOnce = 400

// Update removes entries and adds others. One that is there already gets the mark that is given; that one is not there to
// be removed is no error.
func (k *Kernel) Update(ctx context.Context, s Set, add, remove []Entry) error {
	var requests []netlink.Request
	var entries [][]Entry
	for _, command := range []uint16{nl.IPSET_CMD_DEL, nl.IPSET_CMD_ADD} {
		all := remove
		if command == nl.IPSET_CMD_ADD {
			all = add
		}
		for at := 0; at < len(all); at += entriesAtOnce {
			some := all[at:min(at+entriesAtOnce, len(all))]
			requests = append(requests, s.request(command, some))
			entries = append(entries, some)
		}
	}
	if len(requests) == 0 {
		return nil
	}
	failures, err := k.conn.Do(ctx, requests)
	if err != nil {
		return fmt.Errorf("writing to the set %s: %w", s.Name, err)
	}
	for i, failure := range failures {
		if failure != nil {
			return k.blame(ctx, s, requests[i].Type, entries[i], failure)
		}
	}
	return nil
}

// blame finds the entry of a message that the kernel did not take.
func (k *Kernel) blame(ctx context.Context, s Set, command uint16, entries []Entry, failure error) error {
	for _, e := range entries {
		failures, err := k.conn.Do(ctx, []netlink.Request{s.request(command&0xff, []Entry{e})})
		if err != nil {
			return fmt.Errorf("writing to the set %s: %w", s.Name, err)
		}
		if failures[0] != nil {
			return fmt.Errorf("writing %s to the set %s: %w", e, s.Name, describe(failures[0]))
		}
	}
	return fmt.Errorf("writing to the set %s: %w", s.Name, describe(failure))
}

// errHashFull is IPSET_ERR_HASH_FULL of linux/netfilter/ipset/ip_set_hash.h.
const errHashFull = unix.Errno(4352)

func describe(err error) error {
	if errors.Is(err, errHashFull) {
		return fmt.Errorf("it holds %d entries, which is all it can: %w", maxElements, unix.ENOSPC)
	}
	return err
}

func (s Set) body() netlink.Attributes {
	family := uint8(unix.AF_INET)
	if s.IPv6 {
		family = unix.AF_INET6
	}
	body := netlink.Attributes{family, nl.NFNETLINK_V0, 0, 0}
	body.Uint8(nl.IPSET_ATTR_PROTOCOL, nl.IPSET_PROTOCOL)
	body.String(nl.IPSET_ATTR_SETNAME, s.Name)
	return body
}

func (s Set) request(command uint16, entries []Entry) netlink.Request {
	body := s.body()
	body.NetUint32(nl.IPSET_ATTR_LINENO, 1)
	body.Nested(nl.IPSET_ATTR_ADT, func(a *netlink.Attributes) {
		for _, e := range entries {
			a.Nested(nl.IPSET_ATTR_DATA, func(a *netlink.Attributes) { s.encode(a, e) })
		}
	})
	return netlink.Request{Type: unix.NFNL_SUBSYS_IPSET<<8 | command, Body: body}
}

func (s Set) encode(a *netlink.Attributes, e Entry) {
	address := func(kind uint16, addr netip.Addr) {
		a.Nested(kind, func(a *netlink.Attributes) {
			inner := uint16(nl.IPSET_ATTR_IPADDR_IPV4)
			if addr.Is6() {
				inner = nl.IPSET_ATTR_IPADDR_IPV6
			}
			a.Bytes(inner|unix.NLA_F_NET_BYTEORDER, addr.AsSlice())
		})
	}
	address(nl.IPSET_ATTR_IP, e.Addr)
	if s.Kind != Addr {
		a.NetUint16(nl.IPSET_ATTR_PORT, e.Port)
		a.Uint8(nl.IPSET_ATTR_PROTO, e.Protocol)
	}
	switch s.Kind {
	case AddrPortMark:
		a.Bytes(nl.IPSET_ATTR_SKBMARK|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint64(nil, uint64(e.Mark)<<32|uint64(e.Mask)))
	case AddrPortNet:
		address(nl.IPSET_ATTR_IP2, e.Net.Addr())
		a.Uint8(nl.IPSET_ATTR_CIDR2, uint8(e.Net.Bits()))
	}
	a.NetUint32(nl.IPSET_ATTR_LINENO, 1)
}

// List is every entry of a set.
func (k *Kernel) List(ctx context.Context, s Set) ([]Entry, error) {
	var entries []Entry
	_, err := k.conn.Dump(ctx, netlink.Request{Type: unix.NFNL_SUBSYS_IPSET<<8 | nl.IPSET_CMD_LIST, Body: s.body()}, func(_ uint16, body []byte) {
		if len(body) < nl.SizeofNfgenmsg {
			return
		}
		netlink.Each(body[nl.SizeofNfgenmsg:], func(kind uint16, value []byte) {
			if kind != nl.IPSET_ATTR_ADT {
				return
			}
			netlink.Each(value, func(_ uint16, value []byte) { entries = append(entries, decode(value)) })
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing the set %s: %w", s.Name, err)
	}
	return entries, nil
}

func decode(attributes []byte) Entry {
	var e Entry
	address := func(value []byte) (addr netip.Addr) {
		netlink.Each(value, func(_ uint16, value []byte) { addr, _ = netip.AddrFromSlice(value) })
		return addr
	}
	var network netip.Addr
	bits := -1
	netlink.Each(attributes, func(kind uint16, value []byte) {
		switch {
		case kind == nl.IPSET_ATTR_IP:
			e.Addr = address(value)
		case kind == nl.IPSET_ATTR_PORT && len(value) == 2:
			e.Port = binary.BigEndian.Uint16(value)
		case kind == nl.IPSET_ATTR_PROTO && len(value) == 1:
			e.Protocol = value[0]
		case kind == nl.IPSET_ATTR_SKBMARK && len(value) == 8:
			both := binary.BigEndian.Uint64(value)
			e.Mark, e.Mask = uint32(both>>32), uint32(both)
		case kind == nl.IPSET_ATTR_IP2:
			network = address(value)
		case kind == nl.IPSET_ATTR_CIDR2 && len(value) == 1:
			bits = int(value[0])
		}
	})
	if network.IsValid() {
		if bits < 0 {
			bits = network.BitLen() // the kernel leaves it out for a single address
		}
		e.Net = netip.PrefixFrom(network, bits)
	}
	return e
}
