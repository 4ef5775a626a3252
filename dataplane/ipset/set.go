package ipset

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Set is a set of one family.
type Set struct {
	// Name is at most 31 characters long (IPSET_MAXNAMELEN).
	Name string
	Kind Kind
	IPv6 bool
}

func (s Set) family() uint8 {
	if s.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

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

// form is what the kernel calls a kind.
type form struct {
	name string
	// revision of the type is the one that came with marks, in Linux 3.18. Later kernels know it too.
	revision   uint8
	extensions uint32
}

func (k Kind) form() form {
	return [...]form{
		Addr:         {name: "hash:ip", revision: 4},
		AddrPort:     {name: "hash:ip,port", revision: 5},
		AddrPortMark: {name: "hash:ip,port", revision: 5, extensions: nl.IPSET_FLAG_WITH_SKBINFO},
		AddrPortNet:  {name: "hash:ip,port,net", revision: 7},
	}[k]
}
