package conntrack

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// kernel is the connection tracking of a network namespace.
type kernel struct{ conn *netlink.Conn }

// openKernel opens it in the network namespace of the calling thread.
func openKernel() (*kernel, error) {
	conn, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("asking for flows: %w", err)
	}
	return &kernel{conn}, nil
}

func (k *kernel) close() { _ = k.conn.Close() }

// dump has every flow that the kernel reports visited. Where it is not filtered, or the kernel does not know filters,
// those are all flows of the family. It says whether the kernel reported that the dump may have missed some, because the
// table changed shape meanwhile.
func (k *kernel) dump(ctx context.Context, f filter, filtered bool, visit func(*entry)) (interrupted bool, err error) {
	var e entry
	interrupted, err = k.conn.Dump(ctx, f.request(filtered), func(kind uint16, body []byte) {
		if kind == messageNew && e.parse(body) {
			visit(&e)
		}
	})
	if err != nil {
		return interrupted, fmt.Errorf("reading flows: %w", err)
	}
	return interrupted, nil
}

// remove deletes flows and returns how many there were. One that is gone already is no error.
func (k *kernel) remove(ctx context.Context, removals []netlink.Request) (removed int, err error) {
	results, err := k.conn.Do(ctx, removals)
	for _, failure := range results {
		switch {
		case failure == nil:
			removed++
		case !errors.Is(failure, unix.ENOENT):
			err = failure
		}
	}
	if err != nil {
		return removed, fmt.Errorf("deleting flows: %w", err)
	}
	return removed, nil
}
