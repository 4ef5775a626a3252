package nft

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// Transaction is changes to the tables of one family that the kernel makes all together or not at all, in their order. No
// packet sees some of them only.
//
// It does not ask the kernel to refuse when somebody else has changed the tables meanwhile: every change says in full what
// is to be, none follows from what was read before.
type Transaction struct {
	writer  *Writer
	family  uint8
	encoder encoder
	batch   *netlink.Batch
	// changes says of each request in the batch what it changes.
	changes []change
}

// change is what to tell people when the kernel refuses it.
type change struct{ doing, table, chain, rule string }

func (c change) String() string {
	text := c.doing + " table " + c.table
	if c.chain != "" {
		text = c.doing + " chain " + c.chain + " of table " + c.table
	}
	if c.rule != "" {
		text += " (" + c.chain + c.rule + ")"
	}
	return text
}

// Writer writes to the tables of the network namespace in which it first did. What it has open stays open until Close: the
// kernel lets nobody close a socket of nfnetlink before it has cleared away what the last transaction replaced
// (nft_rcv_nl_event in net/netfilter/nf_tables_api.c), which takes several times as long as the transaction.
// It is for one goroutine at a time.
type Writer struct {
	conn *netlink.Conn
	sets *ipset.Kernel
}

// Close ends the writer. It can be used again.
func (w *Writer) Close() (err error) {
	if w.conn != nil {
		err = w.conn.Close()
	}
	if w.sets != nil {
		err = errors.Join(err, w.sets.Close())
	}
	w.conn, w.sets = nil, nil
	return err
}

// index is the number of a set.
func (w *Writer) index(ctx context.Context, set string) (index uint16, err error) {
	if w.sets == nil {
		if w.sets, err = ipset.Open(); err != nil {
			return 0, err
		}
	}
	return w.sets.Index(ctx, set)
}

// Begin begins a transaction on the tables of iptables, or on those of ip6tables.
func (w *Writer) Begin(ctx context.Context, ipv6 bool) *Transaction {
	t := &Transaction{writer: w, family: unix.NFPROTO_IPV4, batch: netlink.NewBatch(unix.NFNL_SUBSYS_NFTABLES)}
	if ipv6 {
		t.family = unix.NFPROTO_IPV6
	}
	known := map[string]uint16{}
	t.encoder = encoder{ipv6: ipv6, index: func(set string) (index uint16, err error) {
		index, ok := known[set]
		if !ok {
			index, err = w.index(ctx, set)
			known[set] = index
		}
		return index, err
	}}
	return t
}

// Len is the number of changes, and Size what they take up, in bytes.
func (t *Transaction) Len() int { return t.batch.Len() }

// Size is what the changes take up, in bytes.
func (t *Transaction) Size() int { return t.batch.Size() }

// Table makes a table if it is not there.
func (t *Transaction) Table(table string) {
	t.add(change{doing: "making", table: table}, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(a *netlink.Attributes) {
		a.String(unix.NFTA_TABLE_NAME, table)
	})
}

// BuiltinChains makes the chains of a table through which packets come in, where they are not there. Their policies stay.
func (t *Transaction) BuiltinChains(table string) {
	for _, b := range builtinChains(table) {
		c := change{doing: "making", table: table, chain: b.name}
		t.add(c, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, func(a *netlink.Attributes) {
			a.String(unix.NFTA_CHAIN_TABLE, table)
			a.String(unix.NFTA_CHAIN_NAME, b.name)
			a.Nested(unix.NFTA_CHAIN_HOOK, func(a *netlink.Attributes) {
				bigEndian(a, unix.NFTA_HOOK_HOOKNUM, b.hook)
				bigEndian(a, unix.NFTA_HOOK_PRIORITY, uint32(b.priority))
			})
			a.String(unix.NFTA_CHAIN_TYPE, b.kind)
		})
	}
}

// Chain makes a chain if it is not there, and empties it if it is.
func (t *Transaction) Chain(table, chain string) {
	t.add(change{doing: "making", table: table, chain: chain}, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, func(a *netlink.Attributes) {
		a.String(unix.NFTA_CHAIN_TABLE, table)
		a.String(unix.NFTA_CHAIN_NAME, chain)
	})
	t.add(change{doing: "emptying", table: table, chain: chain}, unix.NFT_MSG_DELRULE, 0, func(a *netlink.Attributes) {
		a.String(unix.NFTA_RULE_TABLE, table)
		a.String(unix.NFTA_RULE_CHAIN, chain)
	})
}

// Remove removes an empty chain to which nothing leads.
func (t *Transaction) Remove(table, chain string) {
	t.add(change{doing: "removing", table: table, chain: chain}, unix.NFT_MSG_DELCHAIN, 0, func(a *netlink.Attributes) {
		a.String(unix.NFTA_CHAIN_TABLE, table)
		a.String(unix.NFTA_CHAIN_NAME, chain)
	})
}

// Append adds a rule, as iptables-save prints it after "-A CHAIN", to the end of a chain. An error that wraps ErrUnknown says
// that this package cannot write it; the transaction is of no use then.
func (t *Transaction) Append(table, chain, rule string) error {
	return t.rule(unix.NLM_F_APPEND, table, chain, rule)
}

// Insert is Append for the place before the first rule.
func (t *Transaction) Insert(table, chain, rule string) error { return t.rule(0, table, chain, rule) }

func (t *Transaction) rule(flags uint16, table, chain, rule string) (err error) {
	c := change{doing: "adding to", table: table, chain: chain, rule: rule}
	t.add(c, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|flags, func(a *netlink.Attributes) {
		a.String(unix.NFTA_RULE_TABLE, table)
		a.String(unix.NFTA_RULE_CHAIN, chain)
		err = t.encoder.encode(rule, a)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

func (t *Transaction) add(c change, kind, flags uint16, fill func(a *netlink.Attributes)) {
	t.changes = append(t.changes, c)
	t.batch.Append(kind, flags, t.family, fill)
}

// Commit makes the changes. After an error that wraps a *netlink.Refusal nothing has changed; its text names the chain and
// the rule.
func (t *Transaction) Commit(ctx context.Context) (err error) {
	if t.writer.conn == nil {
		if t.writer.conn, err = netlink.Open(unix.NETLINK_NETFILTER); err != nil {
			return err
		}
	}
	err = t.writer.conn.Commit(ctx, t.batch)
	if refusal, refused := errors.AsType[*netlink.Refusal](err); refused && refusal.At >= 0 {
		return fmt.Errorf("%s: %w", t.changes[refusal.At], err)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("changing tables: %w", err), t.writer.Close())
	}
	return nil
}

// builtin is a chain through which packets come in: where, in which order among others, and as what kind.
type builtin struct {
	name, kind string
	hook       uint32
	priority   int32
}

// builtinChains are those that iptables has in a table (NF_INET_* and NF_IP_PRI_* in the kernel's UAPI).
func builtinChains(table string) []builtin {
	const prerouting, input, forward, output, postrouting = 0, 1, 2, 3, 4
	const destination, source, mangle, filter = -100, 100, -150, 0
	switch table {
	case "nat":
		return []builtin{
			{"PREROUTING", "nat", prerouting, destination}, {"INPUT", "nat", input, source},
			{"OUTPUT", "nat", output, destination}, {"POSTROUTING", "nat", postrouting, source},
		}
	case "filter":
		return []builtin{
			{"INPUT", "filter", input, filter}, {"FORWARD", "filter", forward, filter}, {"OUTPUT", "filter", output, filter},
		}
	case "mangle":
		return []builtin{
			{"PREROUTING", "filter", prerouting, mangle}, {"INPUT", "filter", input, mangle},
			{"FORWARD", "filter", forward, mangle}, {"OUTPUT", "route", output, mangle},
			{"POSTROUTING", "filter", postrouting, mangle},
		}
	}
	return nil
}
