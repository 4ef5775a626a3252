// Package ipset makes, fills, lists and removes sets of addresses in the kernel (ipset(8)), by netlink: no program is
// started, and hundreds of entries go into one message.
package ipset

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// Clients makes a set of addresses of one family that forgets each after some seconds. It is unix.EEXIST where there is a
// set of that name.
func Clients(name string, ipv6 bool, seconds uint32) error {
	return alone(func(ctx context.Context, k *Kernel) error {
		return k.create(ctx, Set{Name: name, Kind: Addr, IPv6: ipv6}, unix.NLM_F_EXCL, &seconds)
	})
}

// Destroy removes a set that no rule refers to. It is no error if there is none.
func Destroy(name string) error {
	return alone(func(ctx context.Context, k *Kernel) error { return k.Destroy(ctx, name) })
}

// Names lists the sets whose names begin with a prefix. A kernel without sets has none.
func Names(prefix string) (names []string, err error) {
	err = alone(func(ctx context.Context, k *Kernel) error {
		names, err = k.names(ctx, prefix)
		return err
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	return names, err
}

// alone does something to the sets of the network namespace of the calling thread. The kernel answers before it returns
// from sendmsg(2), so that there is nothing to wait for that could be cancelled.
func alone(do func(ctx context.Context, k *Kernel) error) error {
	k, err := Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }() // what was answered counts
	return do(context.Background(), k)
}
