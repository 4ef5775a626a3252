package routes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

const (
	// dumpAttempts is how often a list is asked for that may have missed routes, because some changed meanwhile.
	dumpAttempts = 3
	// loopback is the index of interface lo in every network namespace (LOOPBACK_IFINDEX in include/net/flow.h).
	loopback = 1
)

// Sync gives table local of one family the wanted routes and no others of ours, by writing what differs, and returns how
// many that were. At no time is an address without its route that had one and is to have one. The error joins a Failure
// for every route that is not as wanted; all others are. Without wanted routes it is how to clean up.
func Sync(ctx context.Context, ipv6 bool, wanted []Route) (written int, err error) {
	conn, err := netlink.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("opening the routes of this node: %w", err)
	}
	defer func() { _ = conn.Close() }() // what was answered counts
	have, err := list(ctx, conn, ipv6)
	if err != nil {
		return 0, fmt.Errorf("listing routes: %w", err)
	}
	changes := difference(have, wanted)
	if len(changes) == 0 {
		return 0, nil
	}
	requests := make([]netlink.Request, len(changes))
	for i := range changes {
		requests[i] = changes[i].encode()
	}
	results, err := conn.Do(ctx, requests)
	if err != nil {
		return 0, fmt.Errorf("writing routes: %w", err)
	}
	var failures []error
	for i := range changes {
		if reason := changes[i].reason(results[i]); reason != nil {
			failures = append(failures, &Failure{changes[i].Route, reason})
			continue
		}
		written++
	}
	return written, errors.Join(failures...)
}

// Compare is the routes of table local that Sync would write or remove.
func Compare(ctx context.Context, ipv6 bool, wanted []Route) ([]Route, error) {
	conn, err := netlink.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening the routes of this node: %w", err)
	}
	defer func() { _ = conn.Close() }() // what was answered counts
	have, err := list(ctx, conn, ipv6)
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	var different []Route
	for _, c := range difference(have, wanted) {
		different = append(different, c.Route)
	}
	return different, nil
}

// list has the routes of ours by their prefixes.
func list(ctx context.Context, conn *netlink.Conn, ipv6 bool) (map[netip.Prefix]Route, error) {
	request := netlink.Request{Type: unix.RTM_GETROUTE, Body: header{family: family(ipv6)}.encode()}
	for range dumpAttempts {
		found := map[netip.Prefix]Route{}
		interrupted, err := conn.Dump(ctx, request, func(_ uint16, body []byte) {
			if r, ours := decode(body); ours {
				found[r.Prefix] = r
			}
		})
		if err != nil {
			return nil, err
		}
		if !interrupted {
			return found, nil
		}
	}
	return nil, fmt.Errorf("they changed %d times meanwhile", dumpAttempts)
}

// change is one write.
type change struct {
	Route
	kind, flags uint16
}

// difference leads from the routes of ours to those that are wanted. What is missing comes before what is too much.
func difference(have map[netip.Prefix]Route, wanted []Route) []change {
	var put, remove []change
	needed := map[netip.Prefix]bool{}
	for _, r := range around(wanted) {
		needed[r.Prefix] = true
		switch held, there := have[r.Prefix]; {
		case !there:
			put = append(put, change{r, unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_EXCL})
		case held != r:
			put = append(put, change{r, unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_REPLACE})
		}
	}
	for prefix, r := range have {
		if !needed[prefix] {
			remove = append(remove, change{r, unix.RTM_DELROUTE, 0})
		}
	}
	return append(put, remove...)
}

// reason is why a change failed, by the answer of the kernel.
func (c *change) reason(answer error) error {
	switch {
	case errors.Is(answer, unix.EEXIST):
		return ErrTaken
	case errors.Is(answer, unix.ESRCH) && c.kind == unix.RTM_DELROUTE:
		return nil // it is gone
	case errors.Is(answer, unix.EINVAL) && c.Source.IsValid():
		if own, err := addresses.List(); err == nil && !slices.Contains(own, c.Source) {
			return ErrNoSource
		}
	}
	return answer
}
