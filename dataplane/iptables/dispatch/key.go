package dispatch

import (
	"fmt"
	"net/netip"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Key is a destination, or a prefix of one: a string with one nibble in each byte. First come the nibbles of the
// address (8 or 32; none for a node port), then one for the protocol, then four for the port.
type Key string

// protocols are the protocols in the order of the nibbles that stand for them.
func protocols() [3]forwarding.Protocol {
	return [...]forwarding.Protocol{forwarding.TCP, forwarding.UDP, forwarding.SCTP}
}

// AddressNibbles is the number of nibbles in an address of a family.
func AddressNibbles(ipv6 bool) int {
	if ipv6 {
		return 32
	}
	return 8
}

// KeyOf is the key of a frontend. A frontend without a port stands for the whole address.
func KeyOf(k forwarding.Key) Key {
	var nibbles [2*16 + 1 + 4]byte
	n := 0
	add := func(nibble byte) {
		nibbles[n] = nibble
		n++
	}
	if k.Addr.IsValid() {
		raw := k.Addr.As16()
		for _, b := range raw[len(raw)-k.Addr.BitLen()/8:] {
			add(b >> 4)
			add(b & 15)
		}
	}
	if k.Protocol == 0 {
		return Key(nibbles[:n])
	}
	for i, p := range protocols() {
		if p == k.Protocol {
			add(byte(i))
		}
	}
	for shift := 12; shift >= 0; shift -= 4 {
		add(byte(k.Port >> shift & 15))
	}
	return Key(nibbles[:n])
}

// Match is what a prefix asks of a packet. A zero field asks nothing.
type Match struct {
	Addr     netip.Prefix
	Protocol forwarding.Protocol
	// FirstPort and LastPort are the range of ports; every port when LastPort is 0.
	FirstPort, LastPort uint16
}

// Match turns a prefix back into what it asks of a packet. Node ports have no address, and so addressNibbles 0.
func (k Key) Match(addressNibbles int) Match {
	var m Match
	if n := min(len(k), addressNibbles); n > 0 {
		raw := make([]byte, addressNibbles/2)
		for i := range n {
			raw[i/2] |= k[i] << (4 * (1 - i%2))
		}
		addr, _ := netip.AddrFromSlice(raw)
		m.Addr = netip.PrefixFrom(addr, 4*n)
	}
	if len(k) <= addressNibbles {
		return m
	}
	m.Protocol = protocols()[k[addressNibbles]]
	port := k[addressNibbles+1:]
	if len(port) == 0 {
		return m
	}
	for i := range 4 {
		if i < len(port) {
			m.FirstPort |= uint16(port[i]) << (12 - 4*i)
			m.LastPort |= uint16(port[i]) << (12 - 4*i)
		} else {
			m.LastPort |= 15 << (12 - 4*i)
		}
	}
	return m
}

// String names a prefix shortly: 10.96.0.0/12, then the protocol, then the ports in hexadecimal as far as they are
// decided, such as 10.96.0.10.udp.00.
func (k Key) String(addressNibbles int) string {
	m := k.Match(addressNibbles)
	var name string
	switch {
	case m.Addr.IsValid() && m.Addr.IsSingleIP():
		name = m.Addr.Addr().String()
	case m.Addr.IsValid():
		name = m.Addr.String()
	}
	if m.Protocol == 0 {
		return name
	}
	name += "." + m.Protocol.String()
	if ports := k[addressNibbles+1:]; len(ports) > 0 {
		name += "."
		for _, nibble := range []byte(ports) {
			name += fmt.Sprintf("%x", nibble)
		}
	}
	return name
}

func commonPrefix(a, b Key) Key {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return a[:i]
		}
	}
	return a[:n]
}
