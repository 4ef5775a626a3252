package xtables

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Glance tells whether somebody else has written tables of legacy iptables, which gives no notice, by what the kernel says
// of a table without listing it: how many entries it has, how large they are together, and where the built-in chains begin
// and end among them. An entry that was replaced by another of its size is not seen. With nf_tables, which gives notice,
// there is nothing to be seen.
type Glance struct {
	programs *Programs
	tables   []string
	// seen is what the kernel said last, by table; without those that were not looked at yet.
	seen    map[string]tableInfo
	changed bool
}

// NewGlance glances at some tables. What they hold at first is taken for right.
func (t *Programs) NewGlance(tables ...string) *Glance {
	g := &Glance{programs: t, seen: map[string]tableInfo{}}
	if t.backend == Legacy {
		g.tables = tables
	}
	return g
}

// Around has us write to the tables, which keeps what others have changed before apart from what we change.
func (g *Glance) Around(write func() (Written, error)) (Written, error) {
	_ = g.look(g.compare) // whoever asks for changes hears of the error
	defer func() { _ = g.look(func(tableInfo, tableInfo) {}) }()
	return write()
}

// Changed says whether somebody else has changed something since it was asked last.
func (g *Glance) Changed() (bool, error) {
	err := g.look(g.compare)
	changed := g.changed
	g.changed = false
	return changed, err
}

func (g *Glance) compare(before, now tableInfo) { g.changed = g.changed || before != now }

func (g *Glance) look(each func(before, now tableInfo)) error {
	if len(g.tables) == 0 {
		return nil
	}
	family := unix.AF_INET
	if g.programs.IPv6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("opening a socket to ask for tables: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // it has told what it knows
	for _, table := range g.tables {
		now, err := infoOf(fd, g.programs.IPv6, table)
		if err != nil {
			return err
		}
		if before, looked := g.seen[table]; looked {
			each(before, now)
		}
		g.seen[table] = now
	}
	return nil
}

// tableInfo is struct ipt_getinfo of linux/netfilter_ipv4/ip_tables.h, which is the same as struct ip6t_getinfo.
type tableInfo struct {
	Name                   [32]byte
	ValidHooks             uint32
	HookEntries, Underflow [5]uint32
	Entries, Size          uint32
}

// infoOf asks for IPT_SO_GET_INFO, which has the number of IP6T_SO_GET_INFO.
func infoOf(fd int, ipv6 bool, table string) (tableInfo, error) {
	const getInfo = 64
	level := unix.SOL_IP
	if ipv6 {
		level = unix.SOL_IPV6
	}
	var info tableInfo
	copy(info.Name[:], table)
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), getInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return tableInfo{}, fmt.Errorf("asking how large table %s is: %w", table, errno)
	}
	return info, nil
}
