package virtualserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// remembered are the connections of the calling thread's network namespace that IPVS knows: ip_vs_conn_seq_show in
// net/netfilter/ipvs/ip_vs_conn.c.
const remembered = "/proc/thread-self/net/ip_vs_conn"

// connection is what IPVS remembers of a connection of TCP.
type connection struct{ client, to, real netip.AddrPort }

// Forget has IPVS forget connections of TCP that have ended, to real servers that ended says yes to. These must have
// weight 0. It returns how many they were.
//
// When IPVS forgets a connection by itself, minutes later, it has conntrack forget what is tracked from the same port of
// the client to the same address (ip_vs_conn_expire): also a connection that was opened since, and that netfilter
// translates without IPVS. That one would be lost. So IPVS is made to see that the port is used anew, whereupon it
// forgets the old connection at once and leaves conntrack alone (ip_vs_in in net/netfilter/ipvs/ip_vs_core.c). What it is
// shown is a SYN that is a RST too: conntrack takes no such packet for part of a connection (tcp_valid_flags in
// net/netfilter/nf_conntrack_proto_tcp.c), no rule of table nat sees it, and no TCP answers it. IPVS tells the client by ICMP
// that there is no real server, a few times a second at most, and TCP passes over an error about what it has not sent.
func Forget(ctx context.Context, ended func(realServer netip.AddrPort) bool) (int, error) {
	old, err := endedConnections(ended)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	var n int
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		of := slices.DeleteFunc(slices.Clone(old), func(c connection) bool { return c.to.Addr().Is6() != (family == unix.AF_INET6) })
		if len(of) == 0 {
			continue // IPv6 may be switched off altogether
		}
		forgotten, err := forget(ctx, family, of)
		n += forgotten
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// forget has IPVS forget connections of a family, and returns how many.
func forget(ctx context.Context, family int, old []connection) (int, error) {
	socket, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return 0, fmt.Errorf("opening a socket for packets to IPVS: %w", err)
	}
	defer func() { _ = unix.Close(socket) }() // nothing is left in it
	for n, c := range old {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		// No real server takes it, so that it is dropped, which is an error (EPERM). Where it cannot be sent at all, because the
		// address is the node's no more, IPVS forgets the connection in its own time.
		_ = c.again(socket)
	}
	return len(old), nil
}

// endedConnections reads which connections have ended.
func endedConnections(ended func(netip.AddrPort) bool) ([]connection, error) {
	file, err := os.Open(remembered)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no kernel module, no memory
	}
	if err != nil {
		return nil, fmt.Errorf("reading the connections of IPVS: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	var found []connection
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if c, over := parseConnection(lines.Text()); over && ended(c.real) {
			found = append(found, c)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the connections of IPVS: %w", err)
	}
	return found, nil
}

// parseConnection reads a line, and says whether it is about a connection of TCP that is over.
func parseConnection(line string) (c connection, over bool) {
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "TCP" {
		return c, false
	}
	left, err := strconv.Atoi(fields[8])
	if err != nil || !quiet(fields[7], left) {
		return c, false
	}
	for i, end := range []*netip.AddrPort{&c.client, &c.to, &c.real} {
		addr, ok := parseAddr(fields[1+2*i])
		port, err := strconv.ParseUint(fields[2+2*i], 16, 16)
		if !ok || err != nil {
			return c, false
		}
		*end = netip.AddrPortFrom(addr, uint16(port))
	}
	return c, c.client.Port() != 0 // 0 is the memory of which real server a client keeps
}

// quiet says whether nothing more is to come of a connection, by its state and how many seconds IPVS is still going to
// remember it: it was closed and nothing was heard of it for five seconds of two minutes, or reset and for two of ten
// (tcp_timeouts in net/netfilter/ipvs/ip_vs_proto_tcp.c). SYN_SENT is what becomes of one that was closed when another
// connection gets its port and goes to the same real server without IPVS.
func quiet(state string, left int) bool {
	switch state {
	case "TIME_WAIT", "SYN_SENT":
		return left <= 115
	case "CLOSE":
		return left <= 8
	}
	return false
}

// parseAddr reads eight hexadecimal digits, or IPv6 in its usual form.
func parseAddr(s string) (netip.Addr, bool) {
	if b, err := hex.DecodeString(s); err == nil {
		return netip.AddrFromSlice(b)
	}
	addr, err := netip.ParseAddr(s)
	return addr, err == nil
}

// The sizes of headers without options, and flags of TCP (RFC 9293).
const (
	sizeofIPv4, sizeofIPv6, sizeofTCP = 20, 40, 20
	flagsSYNRST                       = 0x02 | 0x04
	hops                              = 64
)

// again sends what looks to IPVS like the begin of another connection of the same client.
// The kernel sums up the IP header; TCP is to drop the packet, whatever its sum.
func (c *connection) again(socket int) error {
	tcp := make([]byte, sizeofTCP)
	binary.BigEndian.PutUint16(tcp[0:], c.client.Port())
	binary.BigEndian.PutUint16(tcp[2:], c.to.Port())
	tcp[12], tcp[13] = sizeofTCP/4<<4, flagsSYNRST
	if to := c.to.Addr(); to.Is6() {
		ip := make([]byte, sizeofIPv6, sizeofIPv6+sizeofTCP)
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_TCP, hops
		binary.BigEndian.PutUint16(ip[4:], sizeofTCP)
		copy(ip[8:], c.client.Addr().AsSlice())
		copy(ip[24:], to.AsSlice())
		return unix.Sendto(socket, append(ip, tcp...), 0, &unix.SockaddrInet6{Addr: to.As16()})
	}
	ip := make([]byte, sizeofIPv4, sizeofIPv4+sizeofTCP)
	ip[0], ip[8], ip[9] = 4<<4|sizeofIPv4/4, hops, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], sizeofIPv4+sizeofTCP)
	copy(ip[12:], c.client.Addr().AsSlice())
	copy(ip[16:], c.to.Addr().AsSlice())
	return unix.Sendto(socket, append(ip, tcp...), 0, &unix.SockaddrInet4{Addr: c.to.Addr().As4()})
}
