package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// open makes a socket for one connection. When it is closed the connection is reset, so that no port is left waiting.
func open(timeout time.Duration) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("making a socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(timeout))
	if err := errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("configuring a socket: %w", err)
	}
	return fd, nil
}

// connect connects by the system call alone, and says how long it took: the SYN goes through the rules, the rest through
// conntrack.
func connect(fd int, to netip.AddrPort) (time.Duration, error) {
	addr := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	start := time.Now()
	err := unix.Connect(fd, addr)
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("connecting to %s: %w", to, err)
	}
	return took, nil
}

// ask connects and says which endpoint answers.
func ask(to netip.AddrPort, timeout time.Duration) (netip.Addr, error) {
	fd, err := open(timeout)
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := connect(fd, to); err != nil {
		return netip.Addr{}, err
	}
	var who [4]byte
	if n, err := unix.Read(fd, who[:]); err != nil || n != len(who) {
		return netip.Addr{}, fmt.Errorf("reading who answers at %s: %d bytes, %w", to, n, err)
	}
	return netip.AddrFrom4(who), nil
}
