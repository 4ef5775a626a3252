package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

const (
	// filteredDumps is up to how many ports of a family are asked for one by one. Each such question has the kernel walk
	// the whole table, which costs about a tenth of having it report every flow.
	filteredDumps = 8
	// dumpAttempts is how often a dump is repeated that may have missed flows. Each finds what it can.
	dumpAttempts = 3
)

// Cleaner deletes stale UDP flows. Its first Flush examines every flow, because what changed before this process started
// is not known; later ones look only at what was noted. It is not safe for concurrent use.
type Cleaner struct {
	pending keys
	// unfiltered says that this kernel does not filter dumps, as before Linux 5.8.
	unfiltered bool
}

// NewCleaner returns a Cleaner that knows nothing of the flows there are.
func NewCleaner() *Cleaner {
	return &Cleaner{pending: keys{noted: map[forwarding.Key]struct{}{}, all: true}}
}

// Note remembers what changes of the forwarding table can have made stale, until a Flush succeeds.
func (c *Cleaner) Note(changes []forwarding.Change) {
	for _, change := range changes {
		affected(change, func(key forwarding.Key) { c.pending.noted[key] = struct{}{} })
	}
}

// NoteAll asks that the next Flush examines every flow, as after a change in where node ports are open.
func (c *Cleaner) NoteAll() { c.pending.all = true }

// Flush deletes the flows that became stale by what was noted, and returns how many they were. The kernel must follow
// the table already, so that the next packet of a deleted flow finds its way. After an error, which counts the flows
// deleted until then, the next Flush tries all of it again.
func (c *Cleaner) Flush(ctx context.Context, view View) (deleted int, err error) {
	if !c.pending.all && len(c.pending.noted) == 0 {
		return 0, nil
	}
	node, err := view.nodeAddresses()
	if err != nil {
		return 0, err
	}
	k, err := openKernel()
	if err != nil {
		return 0, err
	}
	defer k.close()
	judge := &judge{View: view, keys: c.pending, node: node}
	for _, ipv6 := range []bool{false, true} {
		n, err := c.clean(ctx, k, ipv6, judge)
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("deleting stale UDP flows: %w", err)
		}
	}
	c.pending = keys{noted: map[forwarding.Key]struct{}{}}
	return deleted, nil
}

// clean deletes the stale flows of one family.
func (c *Cleaner) clean(ctx context.Context, k *kernel, ipv6 bool, judge *judge) (deleted int, err error) {
	for _, f := range c.filters(ipv6) {
		n, err := c.cleanBy(ctx, k, f, judge)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// filters are the questions that together cover what is pending in a family: one for each port, about one address where
// only one is meant.
func (c *Cleaner) filters(ipv6 bool) []filter {
	everything := []filter{{ipv6: ipv6}}
	if c.pending.all {
		return everything
	}
	byPort := map[uint16]netip.Addr{}
	for key := range c.pending.noted {
		if key.IPv6 != ipv6 {
			continue
		}
		addr, several := byPort[key.Port]
		if !several {
			addr = key.Addr
		}
		// Linux up to 6.18 at least compares IPv6 addresses the wrong way round and returns all but what was asked for
		// (ctnetlink_filter_match_tuple in net/netfilter/nf_conntrack_netlink.c).
		if addr != key.Addr || ipv6 {
			addr = netip.Addr{}
		}
		byPort[key.Port] = addr
	}
	if len(byPort) > filteredDumps || (len(byPort) > 0 && c.unfiltered) {
		return everything
	}
	filters := make([]filter, 0, len(byPort))
	for port, addr := range byPort {
		filters = append(filters, filter{ipv6: ipv6, addr: addr, port: port})
	}
	return filters
}

// cleanBy deletes the stale flows among those that a filter takes.
func (c *Cleaner) cleanBy(ctx context.Context, k *kernel, f filter, judge *judge) (deleted int, err error) {
	for range dumpAttempts {
		var stale []netlink.Request
		ignored := false
		interrupted, err := k.dump(ctx, f, !c.unfiltered, func(e *entry) {
			ignored = ignored || !f.takes(e)
			if e.protocol == unix.IPPROTO_UDP && judge.stale(&e.flow) {
				stale = append(stale, e.removal())
			}
		})
		if !c.unfiltered && (ignored || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
			c.unfiltered = true
			continue
		}
		if err != nil {
			return deleted, err
		}
		n, err := k.remove(ctx, stale)
		deleted += n
		if err != nil || !interrupted {
			return deleted, err
		}
	}
	return deleted, nil
}

// nodeAddresses are the addresses of this node, true where they have node ports.
func (v *View) nodeAddresses() (map[netip.Addr]bool, error) {
	addrs, err := addresses.List()
	if err != nil {
		return nil, err
	}
	found := make(map[netip.Addr]bool, len(addrs))
	for _, addr := range addrs {
		found[addr] = addresses.Within(addr, v.NodePortAddresses)
	}
	return found, nil
}
