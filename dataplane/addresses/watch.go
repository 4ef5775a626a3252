package addresses

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// Watch has the returned channel tell that addresses may have changed, once for any number of changes that nobody has
// taken note of. It is closed when the context ends or, which the kernel gives no reason to expect, nothing more can be
// heard. Changes after Watch returned are never missed, so that one who watches first and lists then knows it all.
func Watch(ctx context.Context) (<-chan struct{}, error) {
	s, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "addresses", nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket to watch addresses: %w", err)
	}
	groups := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}
	if err := s.Bind(groups); err != nil {
		_ = s.Close() // the first error counts
		return nil, fmt.Errorf("watching addresses: %w", err)
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		defer func() { _ = s.Close() }() // nobody could do anything about it
		// What a message says does not matter, only that there is one. After ENOBUFS some were lost, and the socket goes on.
		unread := make([]byte, 1)
		for {
			_, _, err := s.Recvfrom(ctx, unread, 0)
			if ctx.Err() != nil || err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}
