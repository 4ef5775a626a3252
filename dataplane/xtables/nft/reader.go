package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// Reader reads the tables that iptables-nft shows, those of one family in the network namespace in which it first did, without
// starting a program. It is for one goroutine at a time.
type Reader struct {
	// IPv6 says that the tables are those of ip6tables.
	IPv6 bool
	// Prefix starts the names of chains of which every rule has to be understood.
	Prefix string

	conn *netlink.Conn
	sets *ipset.Kernel
	// ahead is what was read for a Read to come; nil when nothing was.
	ahead *snapshot
}

// snapshot is what the tables held after a number of transactions.
type snapshot struct {
	rules      Rules
	generation uint32
}

// Rules are rules by table and chain, in their order, each as iptables-save prints it after "-A CHAIN". A chain without rules is
// there, a table without chains is not.
type Rules map[string]map[string][]string

// ErrRestless is wrapped by an error that says that somebody changed the tables every time that they were read.
var ErrRestless = errors.New("the tables go on changing")

// Close ends the reader. It can be used again.
func (r *Reader) Close() (err error) {
	if r.conn != nil {
		err = r.conn.Close()
	}
	if r.sets != nil {
		err = errors.Join(err, r.sets.Close())
	}
	r.conn, r.sets, r.ahead = nil, nil, nil
	return err
}

// Read reads everything, chain by chain: of a whole table the kernel looks for where it was from the first rule on, each time
// that it fills a buffer (__nf_tables_dump_rules). An error that wraps ErrUnknown says that a rule that is in one of the chains
// with the prefix, or leads to one, cannot be put into words by this package. Any other such rule has a text that no other rule
// has.
func (r *Reader) Read(ctx context.Context) (Rules, error) {
	ahead := r.ahead
	r.ahead = nil
	if ahead != nil {
		if now, err := r.generation(ctx); err == nil && now == ahead.generation {
			return ahead.rules, nil
		}
	}
	read, err := r.everything(ctx)
	return read.rules, err
}

// ReadAhead reads everything for the next Read, which asks the kernel only whether anything has changed since. Its errors are those
// of Read, which tries again.
func (r *Reader) ReadAhead(ctx context.Context) error {
	read, err := r.everything(ctx)
	if err != nil {
		return err
	}
	r.ahead = &read
	return nil
}

func (r *Reader) everything(ctx context.Context) (snapshot, error) {
	return r.consistent(ctx, func() (rules Rules, interrupted bool, err error) {
		var places []place
		interrupted, err = r.dump(ctx, unix.NFT_MSG_GETCHAIN, place{}, func(body []byte) error {
			p := placeOf(body, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME)
			if slices.Contains(tables(), p.table) {
				places = append(places, p)
			}
			return nil
		})
		if err != nil || interrupted {
			return nil, interrupted, err
		}
		held, interrupted, err := r.rulesOfAll(ctx, places)
		if err != nil || interrupted {
			return nil, interrupted, err
		}
		rules = Rules{}
		for i, p := range places {
			rules.set(p, held[i])
		}
		return rules, false, nil
	})
}

// rulesOfAll reads the rules of many chains. Another socket shares the work: half of it is the kernel's, and half is decoding.
func (r *Reader) rulesOfAll(ctx context.Context, places []place) (rules [][]string, interrupted bool, err error) {
	rules = make([][]string, len(places))
	var taken atomic.Int64
	var cut atomic.Bool
	work := func(r *Reader) error {
		for i := taken.Add(1) - 1; i < int64(len(places)) && !cut.Load(); i = taken.Add(1) - 1 {
			held, interrupted, err := r.rulesOf(ctx, places[i])
			if err != nil || interrupted {
				cut.Store(true)
				return err
			}
			rules[i] = held
		}
		return nil
	}
	const few = 64
	if len(places) < few {
		err = work(r)
		return rules, cut.Load(), err
	}
	// Opened here: a socket belongs to the network namespace of the thread that opens it.
	other := &Reader{IPv6: r.IPv6, Prefix: r.Prefix}
	if err := errors.Join(other.open(), other.openSets()); err != nil {
		return nil, false, errors.Join(err, other.Close())
	}
	done := make(chan error, 1)
	go func() { done <- work(other) }()
	err = work(r)
	err = errors.Join(err, <-done, other.Close())
	return rules, cut.Load(), err
}

// ReadChain reads the rules of one chain; nil where it is not there. Its errors are those of Read.
func (r *Reader) ReadChain(ctx context.Context, table, chain string) ([]string, error) {
	p := place{table, chain}
	read, err := r.consistent(ctx, func() (Rules, bool, error) {
		rules := Rules{}
		there := false
		err := r.get(ctx, unix.NFT_MSG_GETCHAIN, p, func([]byte) { there = true })
		if errors.Is(err, unix.ENOENT) {
			return rules, false, nil
		}
		if err != nil || !there {
			return rules, false, err
		}
		held, interrupted, err := r.rulesOf(ctx, p)
		rules.set(p, held)
		return rules, interrupted, err
	})
	return read.rules[table][chain], err
}

// tables are those of iptables.
func tables() []string { return []string{"raw", "mangle", "nat", "filter", "security"} }

// place is a chain of a table; everywhere when it is empty.
type place struct{ table, chain string }

func (rules Rules) set(p place, held []string) {
	if rules[p.table] == nil {
		rules[p.table] = map[string][]string{}
	}
	rules[p.table][p.chain] = held
}

// consistent reads until nothing has changed meanwhile.
func (r *Reader) consistent(ctx context.Context, read func() (rules Rules, interrupted bool, err error)) (snapshot, error) {
	const attempts = 5
	for range attempts {
		before, err := r.generation(ctx)
		if err != nil {
			return snapshot{}, err
		}
		rules, interrupted, err := read()
		if err != nil {
			return snapshot{}, err
		}
		after, err := r.generation(ctx)
		if err != nil {
			return snapshot{}, err
		}
		if !interrupted && before == after {
			return snapshot{rules, before}, nil
		}
	}
	return snapshot{}, fmt.Errorf("reading tables: %w", ErrRestless)
}

// generation is the number of transactions that were carried out.
func (r *Reader) generation(ctx context.Context) (generation uint32, err error) {
	err = r.get(ctx, unix.NFT_MSG_GETGEN, place{}, func(body []byte) {
		netlink.Each(body[sizeofFamily:], func(kind uint16, value []byte) {
			if kind == unix.NFTA_GEN_ID && len(value) == 4 {
				generation = binary.BigEndian.Uint32(value)
			}
		})
	})
	return generation, err
}

// rulesOf reads the rules of a chain.
func (r *Reader) rulesOf(ctx context.Context, p place) (held []string, interrupted bool, err error) {
	var last struct {
		index uint16
		name  string
	}
	d := decoder{encoder: encoder{ipv6: r.IPv6}}
	d.name = func(index uint16) (name string, err error) {
		last.index = index
		last.name, err = r.setName(ctx, index)
		return last.name, err
	}
	// It is asked for what was looked up a moment ago.
	d.index = func(set string) (uint16, error) { return last.index, known(set == last.name) }
	held = []string{}
	interrupted, err = r.dump(ctx, unix.NFT_MSG_GETRULE, p, func(body []byte) error {
		if placeOf(body, unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN) != p {
			return nil // a kernel that cannot list one chain lists all of them
		}
		words, err := d.wordsOf(body, func(chain string) bool { return strings.HasPrefix(chain, r.Prefix) }, p.chain)
		if err != nil {
			return fmt.Errorf("a rule of chain %s of table %s: %w", p.chain, p.table, err)
		}
		held = append(held, words)
		return nil
	})
	return held, interrupted, err
}

// wordsOf puts a rule of a chain into words. One that cannot be has a text of its own, unless it concerns chains of ours.
func (d decoder) wordsOf(body []byte, ours func(chain string) bool, chain string) (string, error) {
	var expressions expressionList
	var note []byte
	netlink.Each(body[sizeofFamily:], func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_RULE_EXPRESSIONS:
			expressions = value
		case unix.NFTA_RULE_USERDATA:
			note = value
		}
	})
	rule, err := d.decode(expressions, note)
	switch {
	case err == nil:
		return rule.words(), nil
	case ours(chain) || ours(expressions.leadsTo()):
		return "", err
	}
	return expressions.fingerprint(), nil
}

func (r *Reader) setName(ctx context.Context, index uint16) (name string, err error) {
	if err := r.openSets(); err != nil {
		return "", err
	}
	return r.sets.Name(ctx, index)
}

func (r *Reader) openSets() (err error) {
	if r.sets == nil {
		r.sets, err = ipset.Open()
	}
	return err
}

// sizeofFamily is the size of struct nfgenmsg, which begins every message.
const sizeofFamily = 4

func placeOf(body []byte, table, chain uint16) (p place) {
	netlink.Each(body[sizeofFamily:], func(kind uint16, value []byte) {
		switch kind {
		case table:
			p.table = netlink.Text(value)
		case chain:
			p.chain = netlink.Text(value)
		}
	})
	return p
}

// request asks about a place; everything where it has none. Chains and rules name their tables by the same attribute.
func (r *Reader) request(kind uint16, p place) netlink.Request {
	body := netlink.Attributes{unix.NFPROTO_IPV4, unix.NFNETLINK_V0, 0, 0}
	if r.IPv6 {
		body[0] = unix.NFPROTO_IPV6
	}
	if p.table != "" {
		body.String(unix.NFTA_RULE_TABLE, p.table)
	}
	if p.chain != "" {
		chain := uint16(unix.NFTA_RULE_CHAIN)
		if kind == unix.NFT_MSG_GETCHAIN {
			chain = unix.NFTA_CHAIN_NAME
		}
		body.String(chain, p.chain)
	}
	return netlink.Request{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, Body: body}
}

func (r *Reader) open() (err error) {
	if r.conn == nil {
		r.conn, err = netlink.Open(unix.NETLINK_NETFILTER)
	}
	return err
}

func (r *Reader) get(ctx context.Context, kind uint16, p place, visit func(body []byte)) error {
	if err := r.open(); err != nil {
		return err
	}
	return r.conn.Get(ctx, r.request(kind, p), func(_ uint16, body []byte) { visit(body) })
}

// dump has all messages of an answer visited, up to the first error.
func (r *Reader) dump(ctx context.Context, kind uint16, p place, visit func(body []byte) error) (interrupted bool, err error) {
	if err := r.open(); err != nil {
		return false, err
	}
	var first error
	interrupted, err = r.conn.Dump(ctx, r.request(kind, p), func(_ uint16, body []byte) {
		if first == nil {
			first = visit(body)
		}
	})
	if err != nil {
		return interrupted, fmt.Errorf("listing tables: %w", err)
	}
	return interrupted, first
}
