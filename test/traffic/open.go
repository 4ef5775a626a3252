package traffic

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// udp is the network of datagrams, and question what is sent in one.
const (
	udp      = "udp"
	question = "?"
)

// ask opens a connection from the network namespace of the calling thread, or sends a datagram, reads which pod answers,
// and closes. It makes few system calls and none by way of Go's poller: on kernels on which everything takes long, that is
// where the time goes.
func ask(start time.Time, network string, to netip.AddrPort, patience time.Duration) (pod string, err error) {
	fd, err := open(network, to)
	if err != nil {
		return "", fmt.Errorf("making a socket for %s: %w", to, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// An answer is waited for at once: that there is no connection is an error of reading too.
	if err := unix.Connect(fd, socketAddress(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) {
		return "", fmt.Errorf("connecting to %s: %w", to, err)
	}
	if network == udp {
		if _, err := unix.Write(fd, []byte(question)); err != nil {
			return "", fmt.Errorf("sending to %s: %w", to, err)
		}
	}
	answer, err := read(fd, start, patience)
	if err != nil {
		return "", fmt.Errorf("reading who answers at %s (%s): %w", to, condition(fd), err)
	}
	pod, _, named := strings.Cut(answer, " ")
	if !named {
		return "", fmt.Errorf("whoever answers at %s is no pod: it said %q", to, answer)
	}
	return pod, nil
}

// open makes a socket that never blocks.
func open(network string, to netip.AddrPort) (fd int, err error) {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	if network == udp {
		kind = unix.SOCK_DGRAM
	}
	return unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

func socketAddress(to netip.AddrPort) unix.Sockaddr {
	if to.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
}

// condition says how a socket is doing: its port, by which conntrack knows the connection, and what TCP knows of it.
func condition(fd int) string {
	port := 0
	switch name, _ := unix.Getsockname(fd); a := name.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	tcp, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil { // not TCP
		return fmt.Sprintf("from port %d", port)
	}
	return fmt.Sprintf("from port %d; in state %d of linux/tcp_states.h, %d segments sent again, %d not acknowledged", port, tcp.State,
		tcp.Total_retrans, tcp.Unacked)
}

// read reads the first answer, which a pod sends whole.
func read(fd int, start time.Time, patience time.Duration) (string, error) {
	answer := make([]byte, 512)
	for left := patience; left > 0; left = patience - time.Since(start) {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) || err == nil && ready == 0 {
			continue
		}
		if err != nil {
			return "", err
		}
		switch n, err := unix.Read(fd, answer); {
		case err == nil && n > 0:
			return string(answer[:n]), nil
		case err == nil:
			return "", io.ErrUnexpectedEOF
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return "", err
		}
	}
	return "", os.ErrDeadlineExceeded
}
