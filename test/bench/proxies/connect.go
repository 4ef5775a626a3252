package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/bench/connect"
)

// ask connects and says which endpoint answers.
func ask(to netip.AddrPort, timeout time.Duration) (netip.Addr, error) {
	fd, err := connect.Socket(timeout)
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := connect.Time(fd, to); err != nil {
		return netip.Addr{}, err
	}
	var who [4]byte
	if n, err := unix.Read(fd, who[:]); err != nil || n != len(who) {
		return netip.Addr{}, fmt.Errorf("reading who answers at %s: %d bytes, %w", to, n, err)
	}
	return netip.AddrFrom4(who), nil
}
