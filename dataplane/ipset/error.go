package ipset

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// errHashFull is IPSET_ERR_HASH_FULL of linux/netfilter/ipset/ip_set_hash.h.
const errHashFull = nl.IPSET_ERR_TYPE_SPECIFIC

// explain puts the error numbers that only ipset has into words, and wraps those of errno(3) that mean the same.
func explain(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) || errno < nl.IPSET_ERR_PRIVATE {
		return err
	}
	switch errno {
	case errHashFull:
		return fmt.Errorf("it is full: %w", unix.ENOSPC)
	case nl.IPSET_ERR_BUSY:
		return fmt.Errorf("a rule refers to it: %w", unix.EBUSY)
	case nl.IPSET_ERR_FIND_TYPE:
		return fmt.Errorf("this kernel has no sets of this type, nor a module that it could load: %w", unix.EOPNOTSUPP)
	}
	return nl.IPSetError(errno)
}
