package ipset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

const (
	// maxElements is how many entries a set may hold. The kernel's own default, 65536, is fewer than there are clients
	// behind a busy gateway, or frontends in a large cluster; memory is taken as the set fills.
	maxElements = 1 << 20
	// entriesAtOnce go into one message: the attribute around them must stay below 64 KiB.
	entriesAtOnce = 400
)

// Kernel is the sets of a network namespace. It is not safe for concurrent use.
type Kernel struct{ conn *netlink.Conn }

// Open opens the sets of the network namespace of the calling thread.
func Open() (*Kernel, error) {
	conn, err := netlink.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("asking for sets: %w", err)
	}
	return &Kernel{conn}, nil
}

// Close ends it. The sets stay.
func (k *Kernel) Close() error { return k.conn.Close() }

// Sent is what was sent to the kernel so far.
func (k *Kernel) Sent() netlink.Sent { return k.conn.Sent() }

// Make makes a set if there is none of its name. One of another kind or family is an error.
func (k *Kernel) Make(ctx context.Context, s Set) error {
	err := k.create(ctx, s, 0, nil)
	if err == nil {
		err = k.checkFamily(ctx, s)
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w; that is one of another kind: remove it with 'ipset destroy %s' when no rule refers to it", err, s.Name)
	}
	return err
}

// checkFamily makes sure of what the kernel does not compare when there is a set of that name (ip_set_create).
func (k *Kernel) checkFamily(ctx context.Context, s Set) error {
	var family uint8
	err := k.get(ctx, request(nl.IPSET_CMD_HEADER, 0, named(s.Name)), func(kind uint16, value []byte) {
		if kind == nl.IPSET_ATTR_FAMILY && len(value) == 1 {
			family = value[0]
		}
	})
	if err != nil {
		return fmt.Errorf("reading of which family the set %s is: %w", s.Name, err)
	}
	if family != s.family() {
		return fmt.Errorf("making the set %s: %w", s.Name, unix.EEXIST)
	}
	return nil
}

// create makes a set that forgets its entries after some seconds, if told so. Where there is one of its name, that is
// unix.EEXIST unless it is of the same kind and flags do not say that it must be new.
func (k *Kernel) create(ctx context.Context, s Set, flags uint16, seconds *uint32) error {
	form := s.Kind.form()
	body := named(s.Name)
	body.String(nl.IPSET_ATTR_TYPENAME, form.name)
	body.Uint8(nl.IPSET_ATTR_REVISION, form.revision)
	body.Uint8(nl.IPSET_ATTR_FAMILY, s.family())
	body.Nested(nl.IPSET_ATTR_DATA, func(a *netlink.Attributes) {
		a.NetUint32(nl.IPSET_ATTR_MAXELEM, maxElements)
		if seconds != nil {
			a.NetUint32(nl.IPSET_ATTR_TIMEOUT, *seconds)
		}
		if form.extensions != 0 {
			a.NetUint32(nl.IPSET_ATTR_CADT_FLAGS, form.extensions)
		}
	})
	if err := k.get(ctx, request(nl.IPSET_CMD_CREATE, unix.NLM_F_CREATE|flags, body), ignore); err != nil {
		return fmt.Errorf("making the set %s of type %s: %w", s.Name, form.name, err)
	}
	return nil
}

// Destroy removes a set that no rule refers to. It is no error if there is none.
func (k *Kernel) Destroy(ctx context.Context, name string) error {
	err := k.get(ctx, request(nl.IPSET_CMD_DESTROY, 0, named(name)), ignore)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing the set %s: %w", name, err)
	}
	return nil
}

// Flush removes every entry of a set.
func (k *Kernel) Flush(ctx context.Context, s Set) error {
	if err := k.get(ctx, request(nl.IPSET_CMD_FLUSH, 0, named(s.Name)), ignore); err != nil {
		return fmt.Errorf("emptying the set %s: %w", s.Name, err)
	}
	return nil
}

// flagListNames asks for the names of sets only: IPSET_FLAG_LIST_SETNAME in linux/netfilter/ipset/ip_set.h.
const flagListNames = 1 << 1

func (k *Kernel) names(ctx context.Context, prefix string) (names []string, err error) {
	body := begin()
	body.NetUint32(nl.IPSET_ATTR_FLAGS, flagListNames)
	err = k.list(ctx, body, func(kind uint16, value []byte) {
		if name := netlink.Text(value); kind == nl.IPSET_ATTR_SETNAME && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing sets: %w", err)
	}
	return names, nil
}

// List is every entry of a set.
func (k *Kernel) List(ctx context.Context, s Set) (entries []Entry, err error) {
	err = k.list(ctx, named(s.Name), func(kind uint16, value []byte) {
		if kind == nl.IPSET_ATTR_ADT {
			netlink.Each(value, func(_ uint16, value []byte) { entries = append(entries, decode(value)) })
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing the set %s: %w", s.Name, err)
	}
	return entries, nil
}

// Update removes entries and adds others. One that is there already gets the mark that is given; that one is not there to
// be removed is no error. The error names the entry that the kernel did not take; of the others some were written.
func (k *Kernel) Update(ctx context.Context, s Set, add, remove []Entry) error {
	var requests []netlink.Request
	var batches [][]Entry
	batch := func(command uint16, entries []Entry) {
		for some := range slices.Chunk(entries, entriesAtOnce) {
			requests = append(requests, s.request(command, some))
			batches = append(batches, some)
		}
	}
	batch(nl.IPSET_CMD_DEL, remove)
	batch(nl.IPSET_CMD_ADD, add)
	results, err := k.conn.Do(ctx, requests)
	if err != nil {
		return fmt.Errorf("writing to the set %s: %w", s.Name, err)
	}
	for i, failure := range results {
		if failure == nil {
			continue
		}
		what := "writing to"
		if n := numberIn(failure); n > 0 && n <= len(batches[i]) {
			what = fmt.Sprintf("writing %s to", batches[i][n-1])
		}
		return fmt.Errorf("%s the set %s: %w", what, s.Name, explain(failure))
	}
	return nil
}

// request is to add or delete entries, which are numbered from 1.
func (s Set) request(command uint16, entries []Entry) netlink.Request {
	body := named(s.Name)
	body.NetUint32(nl.IPSET_ATTR_LINENO, 0) // the kernel puts the number of an entry here that it did not take
	body.Nested(nl.IPSET_ATTR_ADT, func(a *netlink.Attributes) {
		for i := range entries {
			a.Nested(nl.IPSET_ATTR_DATA, func(a *netlink.Attributes) { entries[i].encode(a, s.Kind, i+1) })
		}
	})
	return request(command, 0, body)
}

// numberIn is the number of the entry that a request failed at, 0 if that is not known.
func numberIn(failure error) (number int) {
	var refused *netlink.Error
	if errors.As(failure, &refused) && len(refused.Request) > nl.SizeofNfgenmsg {
		netlink.Each(refused.Request[nl.SizeofNfgenmsg:], func(kind uint16, value []byte) {
			if kind == nl.IPSET_ATTR_LINENO && len(value) == 4 {
				number = int(binary.BigEndian.Uint32(value))
			}
		})
	}
	return number
}

// list has the attributes of sets visited. That something changed meanwhile is not known, as ipset does not tell.
func (k *Kernel) list(ctx context.Context, body netlink.Attributes, visit func(kind uint16, value []byte)) error {
	_, err := k.conn.Dump(ctx, request(nl.IPSET_CMD_LIST, 0, body), func(_ uint16, body []byte) { each(body, visit) })
	return explain(err)
}

func (k *Kernel) get(ctx context.Context, r netlink.Request, visit func(kind uint16, value []byte)) error {
	return explain(k.conn.Get(ctx, r, func(_ uint16, body []byte) { each(body, visit) }))
}

func ignore(uint16, []byte) {}

func each(body []byte, visit func(kind uint16, value []byte)) {
	if len(body) >= nl.SizeofNfgenmsg {
		netlink.Each(body[nl.SizeofNfgenmsg:], visit)
	}
}

func request(command, flags uint16, body netlink.Attributes) netlink.Request {
	return netlink.Request{Type: unix.NFNL_SUBSYS_IPSET<<8 | command, Flags: flags, Body: body}
}

func begin() netlink.Attributes {
	body := netlink.Attributes{unix.AF_UNSPEC, nl.NFNETLINK_V0, 0, 0}
	body.Uint8(nl.IPSET_ATTR_PROTOCOL, nl.IPSET_PROTOCOL)
	return body
}

func named(set string) netlink.Attributes {
	body := begin()
	body.String(nl.IPSET_ATTR_SETNAME, set)
	return body
}
