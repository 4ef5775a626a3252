package ipset

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// flagListHeader leaves the entries out of a list: IPSET_FLAG_LIST_HEADER in linux/netfilter/ipset/ip_set.h.
const flagListHeader = 1 << 2

// Count is how many entries a set has. They are counted by the kernel and not listed.
func (k *Kernel) Count(ctx context.Context, s Set) (int, error) {
	body := named(s.Name)
	body.NetUint32(nl.IPSET_ATTR_FLAGS, flagListHeader)
	count := 0
	err := k.list(ctx, body, func(kind uint16, value []byte) {
		if kind == nl.IPSET_ATTR_DATA {
			netlink.Each(value, func(kind uint16, value []byte) {
				if kind == nl.IPSET_ATTR_ELEMENTS && len(value) == 4 {
					count = int(binary.BigEndian.Uint32(value))
				}
			})
		}
	})
	if err != nil {
		return 0, fmt.Errorf("counting the entries of the set %s: %w", s.Name, err)
	}
	return count, nil
}
