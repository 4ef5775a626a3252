// Package connect times the first packet of connections.
package connect

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Socket makes a socket for one TCP connection over IPv4, in the network namespace of the calling thread, in which nothing waits
// for longer than the timeout. When it is closed the connection is reset, so that no port is left waiting that could run out.
func Socket(timeout time.Duration) (fd int, err error) {
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

// Time connects by the system call alone, and says how long it took: the SYN goes through the rules, the rest through
// conntrack. Where the error wraps unix.EINTR the Go runtime came in between.
func Time(fd int, to netip.AddrPort) (time.Duration, error) {
	addr := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	start := time.Now()
	err := unix.Connect(fd, addr)
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("connecting to %s: %w", to, err)
	}
	return took, nil
}
