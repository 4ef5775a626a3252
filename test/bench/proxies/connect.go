package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connect opens a connection by system calls alone, and says how long connect(2) took: the SYN goes through the rules, the
// rest through conntrack. The connection is to be closed by unix.Close, which resets it, so that no port is left waiting.
func connect(to netip.AddrPort, timeout time.Duration) (fd int, took time.Duration, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, 0, fmt.Errorf("making a socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(timeout))
	if err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	}
	if err == nil {
		addr := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		start := time.Now()
		err = unix.Connect(fd, addr)
		took = time.Since(start)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("connecting to %s: %w", to, err)
	}
	return fd, took, nil
}

// ask connects and says which endpoint answers.
func ask(to netip.AddrPort, timeout time.Duration) (netip.Addr, error) {
	fd, _, err := connect(to, timeout)
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	var who [4]byte
	if n, err := unix.Read(fd, who[:]); err != nil || n != len(who) {
		return netip.Addr{}, fmt.Errorf("reading who answers at %s: %d bytes, %w", to, n, err)
	}
	return netip.AddrFrom4(who), nil
}
