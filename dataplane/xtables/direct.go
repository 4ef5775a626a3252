package xtables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

// writesDirectly tries whether rules can be written by netlink: whether the kernel takes them, and whether the programs of
// this node, which may be of another version than those that this package had as its model, read them as they were meant.
func (t *Programs) writesDirectly(ctx context.Context) bool {
	wanted := t.specimens()
	specimens := NewTable("nat", t.trial)
	specimens.Want(Chain{Name: t.trial, Rules: wanted})
	if _, err := t.direct(ctx, nil, specimens); err != nil {
		return false
	}
	specimens.written()
	listed, err := t.command.List("nat", t.trial)
	specimens.Drop(t.trial)
	if _, gone := t.direct(ctx, nil, specimens); err != nil || gone != nil {
		return false
	}
	var read []string
	for _, line := range listed {
		if rule, ok := strings.CutPrefix(line, "-A "+t.trial); ok {
			read = append(read, rule)
		}
	}
	return slices.Equal(read, wanted)
}

// specimens are rules that together have everything that is written in other words for nf_tables than for iptables.
func (t *Programs) specimens() []string {
	network, address, backend := "192.0.2.0/25", "192.0.2.1/32", "192.0.2.1:80"
	if t.IPv6 {
		network, address, backend = "2001:db8::/61", "2001:db8::1/128", "[2001:db8::1]:80"
	}
	return []string{
		" ! -s " + network + " -d " + address + ` -i lo -p tcp -m tcp --dport 80 -m comment --comment "a b" -j DNAT --to-destination ` + backend,
		" -d " + network + " -o veth+ -p udp -m udp --dport 16:31 -m statistic --mode random --probability 0.25000000000 -g " + t.trial,
		" -p sctp -m sctp --dport 80 -m addrtype --dst-type LOCAL -j RETURN",
		" -m mark ! --mark 0x4000/0x4000 -m conntrack ! --ctstate RELATED,ESTABLISHED -j MARK --set-xmark 0x4000/0x4000",
		" -j MASQUERADE --random-fully",
	}
}

// direct writes by netlink what is pending in tables and the jumps that are missing, all in one transaction. It returns how
// many bytes that took. After an error nothing has been written.
func (t *Programs) direct(ctx context.Context, missing []Jump, tables ...*Table) (int, error) {
	transaction := t.writer.Begin(ctx, t.IPv6)
	for _, table := range tables {
		if err := table.change(transaction, missing); err != nil {
			return 0, err
		}
	}
	if err := transaction.Commit(ctx); err != nil {
		return 0, fmt.Errorf("writing by netlink: %w", err)
	}
	return transaction.Size(), nil
}

// change is script for a transaction.
func (s *Table) change(t *nft.Transaction, missing []Jump) error {
	missing = slices.DeleteFunc(slices.Clone(missing), func(j Jump) bool { return j.Table != s.name })
	if len(s.pending) == 0 && len(missing) == 0 {
		return nil
	}
	t.Table(s.name)
	if len(missing) > 0 {
		t.BuiltinChains(s.name)
	}
	names := slices.Sorted(maps.Keys(s.pending))
	for _, name := range names {
		t.Chain(s.name, name)
	}
	for _, name := range names {
		if c := s.pending[name]; c != nil {
			for _, rule := range c.Rules {
				if err := t.Append(s.name, name, rule); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range names {
		if s.pending[name] == nil {
			t.Remove(s.name, name)
		}
	}
	for _, j := range missing {
		// Each goes first in its chain, so that the last of several for one chain comes first.
		if err := t.Insert(s.name, j.Chain, j.text()); err != nil {
			return err
		}
	}
	return nil
}
