package virtualserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// dumpAttempts is how often a list is asked for that may have missed something, because it changed meanwhile.
const dumpAttempts = 3

// Kernel are the virtual servers of a network namespace. It is not safe for concurrent use.
type Kernel struct {
	conn *netlink.Conn
	id   uint16
}

// Open opens the virtual servers of the network namespace of the calling thread.
func Open() (*Kernel, error) {
	conn, err := netlink.Open(unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket to IPVS: %w", err)
	}
	return &Kernel{conn: conn}, nil
}

// Close closes it. The virtual servers stay.
func (k *Kernel) Close() error { return k.conn.Close() }

// Sent is what has been sent to the kernel since Open.
func (k *Kernel) Sent() netlink.Sent { return k.conn.Sent() }

// family is the number that generic netlink gave to IPVS when its module was loaded.
func (k *Kernel) family(ctx context.Context) (uint16, error) {
	if k.id != 0 {
		return k.id, nil
	}
	id, err := k.conn.Family(ctx, familyName)
	if errors.Is(err, unix.ENOENT) {
		return 0, &MissingModuleError{Module: "ip_vs"}
	}
	if err != nil {
		return 0, fmt.Errorf("asking for IPVS: %w", err)
	}
	k.id = id
	return id, nil
}

// List is every virtual server there is, with its real servers, in no particular order.
func (k *Kernel) List(ctx context.Context) ([]State, error) {
	servers, err := k.servers(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing virtual servers: %w", err)
	}
	states := make([]State, len(servers))
	for i, s := range servers {
		states[i].Server = s
		if states[i].Real, err = k.real(ctx, s.Key); err != nil {
			return nil, fmt.Errorf("listing the real servers of %s: %w", s.Key, err)
		}
	}
	return states, nil
}

// Connections are those of the real servers of some virtual servers. One that is gone has none.
func (k *Kernel) Connections(ctx context.Context, keys map[Key]struct{}) (map[Key]map[netip.AddrPort]Connections, error) {
	found := make(map[Key]map[netip.AddrPort]Connections, len(keys))
	for key := range keys {
		states, err := k.real(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("counting the connections of %s: %w", key, err)
		}
		found[key] = make(map[netip.AddrPort]Connections, len(states))
		for _, r := range states {
			found[key][r.Addr] = r.Connections
		}
	}
	return found, nil
}

func (k *Kernel) servers(ctx context.Context) (servers []Server, err error) {
	err = k.dump(ctx, netlink.Generic(commandGetService, familyVersion), func(body []byte) {
		if s, ok := decodeServer(body); ok {
			servers = append(servers, s)
		}
	}, func() { servers = nil })
	return servers, err
}

func (k *Kernel) real(ctx context.Context, key Key) (states []RealState, err error) {
	request := netlink.Generic(commandGetDest, familyVersion)
	request.Nested(attrService, key.encode)
	err = k.dump(ctx, request, func(body []byte) {
		if r, ok := decodeReal(body, key.IPv6); ok {
			states = append(states, r)
		}
	}, func() { states = nil })
	return states, err
}

// dump has everything visited that a request is answered with. Where that may have missed something it is asked again,
// after what was visited has been forgotten.
func (k *Kernel) dump(ctx context.Context, request []byte, visit func(body []byte), forget func()) error {
	family, err := k.family(ctx)
	if err != nil {
		return err
	}
	for range dumpAttempts {
		forget()
		all := netlink.Request{Type: family, Body: request}
		interrupted, err := k.conn.Dump(ctx, all, func(_ uint16, body []byte) { visit(body) })
		if err != nil {
			return err
		}
		if !interrupted {
			return nil
		}
	}
	return fmt.Errorf("it changed %d times meanwhile", dumpAttempts)
}

// Do makes changes, in their order, and returns those that failed, in their order too. Where the kernel could not be
// asked, or did not answer, that is all of them, although some may have been made.
func (k *Kernel) Do(ctx context.Context, changes Batch) []*Failure {
	if len(changes) == 0 {
		return nil
	}
	errs, err := k.do(ctx, changes)
	var failures []*Failure
	for i := range changes {
		switch {
		case err != nil:
			failures = append(failures, &Failure{changes[i], err})
		case errs[i] != nil:
			failures = append(failures, &Failure{changes[i], errs[i]})
		}
	}
	return failures
}

func (k *Kernel) do(ctx context.Context, changes Batch) ([]error, error) {
	family, err := k.family(ctx)
	if err != nil {
		return nil, err
	}
	requests := make([]netlink.Request, len(changes))
	for i := range changes {
		requests[i] = netlink.Request{Type: family, Body: changes[i].encode()}
	}
	return k.conn.Do(ctx, requests)
}

// SetTimeouts says how long idle connections are remembered: of TCP, of TCP that were closed, and of UDP. 0 leaves what
// is. A part of a second counts as a second.
func (k *Kernel) SetTimeouts(ctx context.Context, tcp, tcpFin, udp time.Duration) error {
	family, err := k.family(ctx)
	if err != nil {
		return err
	}
	body := netlink.Generic(commandSetConfig, familyVersion)
	for kind, d := range map[uint16]time.Duration{attrTimeoutTCP: tcp, attrTimeoutTCPFin: tcpFin, attrTimeoutUDP: udp} {
		if d > 0 {
			body.Uint32(kind, uint32((d+time.Second-1)/time.Second))
		}
	}
	if err := k.conn.Get(ctx, netlink.Request{Type: family, Body: body}, func(uint16, []byte) {}); err != nil {
		return fmt.Errorf("setting the timeouts of IPVS: %w", err)
	}
	return nil
}
