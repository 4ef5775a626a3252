package ipset

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// What looking up a set takes: IPSET_CMD_GET_BYNAME, IPSET_CMD_GET_BYINDEX and IPSET_ATTR_INDEX in
// linux/netfilter/ipset/ip_set.h, and the version of the protocol that has them (Linux 4.20).
const (
	commandGetByName  = 14
	commandGetByIndex = 15
	attrIndex         = 11
	protocolOfIndex   = 7
)

// Index is the number by which rules refer to a set.
func (k *Kernel) Index(ctx context.Context, name string) (uint16, error) {
	body := netlink.Attributes{unix.AF_UNSPEC, nl.NFNETLINK_V0, 0, 0}
	body.Uint8(nl.IPSET_ATTR_PROTOCOL, protocolOfIndex)
	body.String(nl.IPSET_ATTR_SETNAME, name)
	var index []byte
	err := k.get(ctx, request(commandGetByName, 0, body), func(kind uint16, value []byte) {
		if kind == attrIndex {
			index = append(index, value...)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("looking up the set %s: %w", name, err)
	}
	if len(index) != 2 {
		return 0, fmt.Errorf("looking up the set %s: the kernel gave no index", name)
	}
	return binary.BigEndian.Uint16(index), nil
}

// Name is the name of the set of a number.
func (k *Kernel) Name(ctx context.Context, index uint16) (string, error) {
	body := netlink.Attributes{unix.AF_UNSPEC, nl.NFNETLINK_V0, 0, 0}
	body.Uint8(nl.IPSET_ATTR_PROTOCOL, protocolOfIndex)
	body.NetUint16(attrIndex, index)
	var name string
	err := k.get(ctx, request(commandGetByIndex, 0, body), func(kind uint16, value []byte) {
		if kind == nl.IPSET_ATTR_SETNAME {
			name = netlink.Text(value)
		}
	})
	if err != nil {
		return "", fmt.Errorf("looking up the set of number %d: %w", index, err)
	}
	if name == "" {
		return "", fmt.Errorf("looking up the set of number %d: the kernel gave no name", index)
	}
	return name, nil
}
