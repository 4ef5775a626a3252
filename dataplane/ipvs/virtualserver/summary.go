package virtualserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// Options of getsockopt(2), and what they answer with: IP_VS_SO_GET_INFO and IP_VS_SO_GET_SERVICES, struct ip_vs_getinfo,
// ip_vs_get_services and ip_vs_service_entry in include/uapi/linux/ip_vs.h.
const (
	getInfo     = 64 + 1024 + 64 + 1
	getServices = getInfo + 1
)

type info struct{ Version, Size, Servers uint32 }

type entry struct {
	Protocol, _ uint16
	Addr        [4]byte
	Port        [2]byte
	_           uint16
	Mark        uint32
	Scheduler   [16]byte
	Flags       uint32
	Timeout     uint32
	_           uint32 // the netmask
	Reals       uint32
	_           [3]uint32 // what it has carried
	_           [2]uint64
	_           [5]uint32
}

// Summaries visits every virtual server of IPv4 of the calling thread's network namespace, with the number of its real
// servers: all in one system call, which takes a small part of the time that a list does. There is no such call for IPv6.
func Summaries(visit func(server Server, reals int)) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("opening a socket to ask for virtual servers: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // it has told what it knows
	for range dumpAttempts {
		var count info
		if err := ask(fd, getInfo, unsafe.Slice((*byte)(unsafe.Pointer(&count)), unsafe.Sizeof(count))); err != nil {
			return fmt.Errorf("counting virtual servers: %w", err)
		}
		// The entries begin where their alignment lets them.
		const before = unsafe.Alignof(uint64(0))
		answer := make([]byte, before+uintptr(count.Servers)*unsafe.Sizeof(entry{}))
		binary.NativeEndian.PutUint32(answer, count.Servers)
		err = ask(fd, getServices, answer)
		if errors.Is(err, unix.EINVAL) {
			continue // there are more or fewer by now
		}
		if err != nil {
			return fmt.Errorf("listing virtual servers: %w", err)
		}
		for i := range binary.NativeEndian.Uint32(answer) {
			e := (*entry)(unsafe.Pointer(&answer[before+uintptr(i)*unsafe.Sizeof(entry{})]))
			visit(e.server(), int(e.Reals))
		}
		return nil
	}
	return fmt.Errorf("listing virtual servers: they changed %d times meanwhile", dumpAttempts)
}

func ask(fd int, option uintptr, answer []byte) error {
	size := uint32(len(answer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, option,
		uintptr(unsafe.Pointer(&answer[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (e *entry) server() Server {
	name, _, _ := bytes.Cut(e.Scheduler[:], []byte{0})
	s := Server{Scheduler: string(name), Flags: e.Flags &^ flagHashed, PersistenceSeconds: e.Timeout}
	if s.Mark = e.Mark; e.Mark == 0 {
		s.Addr, s.Port = netip.AddrFrom4(e.Addr), binary.BigEndian.Uint16(e.Port[:])
		s.Protocol = forwarding.Protocol(e.Protocol)
	}
	return s
}

// Get is one virtual server with its real servers. It is unix.ESRCH where there is none.
func (k *Kernel) Get(ctx context.Context, key Key) (State, error) {
	family, err := k.family(ctx)
	if err != nil {
		return State{}, err
	}
	var state State
	request := netlink.Generic(commandGetService, familyVersion)
	request.Nested(attrService, key.encode)
	err = k.conn.Get(ctx, netlink.Request{Type: family, Body: request}, func(_ uint16, body []byte) {
		if s, ok := decodeServer(body); ok {
			state.Server = s
		}
	})
	if err == nil {
		state.Real, err = k.real(ctx, key)
	}
	if err != nil {
		return State{}, fmt.Errorf("reading the virtual server %s: %w", key, err)
	}
	return state, nil
}
