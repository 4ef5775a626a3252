package routes

import (
	"errors"
	"fmt"
	"net/netip"
)

// Protocol is the route protocol number (rtm_protocol, "proto" of ip-route(8)) of every route of ours. The kernel gives
// no meaning to it, and neither include/uapi/linux/rtnetlink.h nor /etc/iproute2/rt_protos nor a routing daemon that we
// know of uses it.
const Protocol = 211

// Type is what happens to packets.
type Type uint8

const (
	// Local has the node take them for its own.
	Local Type = iota + 1
	// Throw leaves them to the other routes of the node, as if there were no wider route of ours. The name is that of
	// ip-route(8), and the kernel's own kind of it is not used: unless there are rules beside those that every machine
	// has (ip-rule(8)), Linux keeps the tables local and main in one trie, and then such a route of IPv4 makes addresses
	// unreachable. Routes around them do the same everywhere.
	Throw
)

// String is the word of ip-route(8).
func (t Type) String() string {
	switch t {
	case Local:
		return "local"
	case Throw:
		return "throw"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Route says what to do with packets to some addresses.
type Route struct {
	// Prefix are the addresses. The most specific route decides.
	Prefix netip.Prefix
	Type   Type
	// Source is the address that connections from here to them have where they do not choose one. Unset, the kernel
	// chooses: of IPv4 the destination itself. It says nothing with Throw.
	Source netip.Addr
}

// String is the route in the words of ip-route(8).
func (r Route) String() string {
	if r.Source.IsValid() {
		return fmt.Sprintf("%s %s src %s", r.Type, r.Prefix, r.Source)
	}
	return fmt.Sprintf("%s %s", r.Type, r.Prefix)
}

var (
	// ErrTaken says that somebody else has a route for the same addresses, or one of them on an interface. It is left
	// alone, and ours is not there.
	ErrTaken = errors.New("somebody else has a route for these addresses in table local (ip route show table local)")
	// ErrNoSource says that the source of a route is not an address of this node, or not any more.
	ErrNoSource = errors.New("its source is not an address of this node")
)

// Failure is a route that is not as it should be.
type Failure struct {
	Route Route
	Err   error
}

// Error names the route and why.
func (f *Failure) Error() string { return fmt.Sprintf("route %s: %v", f.Route, f.Err) }

// Unwrap is the reason.
func (f *Failure) Unwrap() error { return f.Err }
