package netlink

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Generic begins the body of a request to a family of generic netlink: struct genlmsghdr.
func Generic(command, version uint8) Attributes { return Attributes{command, version, 0, 0} }

// SizeofGeneric is what comes before the attributes in an answer of generic netlink.
const SizeofGeneric = unix.SizeofNlMsghdr / 4

// Family is the message type of a family of generic netlink. It is unix.ENOENT where the kernel has none of that name,
// and no module for it that it could load.
func (c *Conn) Family(ctx context.Context, name string) (uint16, error) {
	body := Generic(unix.CTRL_CMD_GETFAMILY, 1)
	body.String(unix.CTRL_ATTR_FAMILY_NAME, name)
	var id uint16
	err := c.Get(ctx, Request{Type: unix.GENL_ID_CTRL, Body: body}, func(_ uint16, answer []byte) {
		if len(answer) < SizeofGeneric {
			return
		}
		Each(answer[SizeofGeneric:], func(kind uint16, value []byte) {
			if kind == unix.CTRL_ATTR_FAMILY_ID && len(value) >= 2 {
				id = binary.NativeEndian.Uint16(value)
			}
		})
	})
	if err != nil {
		return 0, fmt.Errorf("looking for netlink family %s: %w", name, err)
	}
	return id, nil
}
