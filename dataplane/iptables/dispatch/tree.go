// Package dispatch finds the rules for a packet's destination in a number of steps that does not grow with the number
// of destinations.
//
// A destination is an address, a protocol and a port, written as a string of nibbles. A Tree is a path-compressed,
// 16-ary prefix tree over such strings. Each node that is worth it becomes a chain, whose rules match a longer prefix
// and go on to the chain of a child; a node with few destinations below it lists them in its own chain. The shape
// follows from the destinations alone, so that a restarted agent arrives at the same chains.
//
// The package is pure: it knows which chains there should be and which of them a change touches, and nothing of rules.
package dispatch

import (
	"cmp"
	"slices"
	"strings"
)

// leafSize is the number of destinations up to which a node lists them all in its own chain. Walking a rule that does
// not match costs a few nanoseconds, a chain costs memory and time in every write: measured, 4 to 8 are equally good.
const leafSize = 8

// Tree maps keys to values and lays them out as chains. The zero value is not usable, see New.
type Tree[V any] struct {
	root  *node[V]
	dirty map[Key]bool
}

// node is an inner node, a key with a value, or both.
type node[V any] struct {
	prefix   Key
	value    *V
	children []*node[V] // sorted by prefix, each with another nibble after this prefix
	size     int        // values at and below this node
}

// New returns an empty tree. Its root always has a chain.
func New[V any]() *Tree[V] {
	return &Tree[V]{root: &node[V]{}, dirty: map[Key]bool{"": true}}
}

// Len is the number of keys in the tree.
func (t *Tree[V]) Len() int { return t.root.size }

// Get returns the value of a key, if it has one.
func (t *Tree[V]) Get(key Key) (value V, found bool) {
	at := t.root
	for at != nil && at.prefix != key {
		if !strings.HasPrefix(string(key), string(at.prefix)) {
			return value, false
		}
		_, at = at.child(key)
	}
	if at == nil || at.value == nil {
		return value, false
	}
	return *at.value, true
}

// Set gives a key a value.
func (t *Tree[V]) Set(key Key, value V) {
	path := []*node[V]{t.root}
	added := true
	for at := t.root; ; {
		if at.prefix == key {
			added = at.value == nil
			at.value = &value
			at.walk(t.touch) // every chain below falls back on this value
			break
		}
		i, child := at.child(key)
		if child == nil {
			leaf := &node[V]{prefix: key, value: &value}
			at.children = slices.Insert(at.children, i, leaf)
			path = append(path, leaf)
			break
		}
		if shared := commonPrefix(child.prefix, key); len(shared) < len(child.prefix) {
			fork := &node[V]{prefix: shared, children: []*node[V]{child}, size: child.size}
			at.children[i] = fork
			t.touch(child)
			child = fork
		}
		path = append(path, child)
		at = child
	}
	for _, n := range path {
		if added {
			n.size++
		}
		t.touchAround(n)
	}
}

// Delete takes a key out of the tree.
func (t *Tree[V]) Delete(key Key) {
	path := []*node[V]{t.root}
	for at := t.root; at.prefix != key; {
		_, child := at.child(key)
		if child == nil || !strings.HasPrefix(string(key), string(child.prefix)) {
			return
		}
		path = append(path, child)
		at = child
	}
	last := path[len(path)-1]
	if last.value == nil {
		return
	}
	last.value = nil
	last.walk(t.touch)
	for i, n := range slices.Backward(path) {
		n.size--
		t.touchAround(n)
		if i > 0 && n.value == nil && len(n.children) < 2 {
			t.unfork(path[i-1], n)
		}
	}
}

// unfork takes a node out of the tree that is not a fork any more: its only child, if any, takes its place.
func (t *Tree[V]) unfork(parent, n *node[V]) {
	at, _ := parent.child(n.prefix)
	if len(n.children) == 0 {
		parent.children = slices.Delete(parent.children, at, at+1)
		return
	}
	parent.children[at] = n.children[0]
	t.touch(n.children[0])
}

// child finds the child that shares the next nibble with the key, or where it would stand.
func (n *node[V]) child(key Key) (int, *node[V]) {
	next := key[len(n.prefix)]
	i, found := slices.BinarySearchFunc(n.children, next, func(c *node[V], nibble byte) int {
		return cmp.Compare(c.prefix[len(n.prefix)], nibble)
	})
	if !found {
		return i, nil
	}
	return i, n.children[i]
}

func (t *Tree[V]) touch(n *node[V]) { t.dirty[n.prefix] = true }

// touchAround marks what the size of a node decides: its own chain, and whether its children have chains.
func (t *Tree[V]) touchAround(n *node[V]) {
	t.touch(n)
	if n.size <= leafSize+1 {
		for _, c := range n.children {
			t.touch(c)
		}
	}
}

// Chain is what a chain holds, in order.
type Chain[V any] struct {
	Prefix  Key
	Entries []Entry[V]
}

// Entry is either a destination with its value, or a prefix whose chain has to be asked.
type Entry[V any] struct {
	Key   Key
	Value *V // nil where the chain of prefix Key goes on
}

// Dirty calls visit for the chain of each prefix that may have changed since the last call, with nil where there is no
// such chain any more.
func (t *Tree[V]) Dirty(visit func(prefix Key, chain *Chain[V])) {
	for prefix := range t.dirty {
		visit(prefix, t.chain(prefix))
	}
	t.dirty = map[Key]bool{} // clear would keep room for as many as there ever were
}

// TouchAll marks every chain, as after a change of how rules are written.
func (t *Tree[V]) TouchAll() { t.root.walk(t.touch) }

func (n *node[V]) walk(visit func(*node[V])) {
	visit(n)
	for _, c := range n.children {
		c.walk(visit)
	}
}

// chain is the chain of a prefix, if there is one: the root always has one, and else a node that is below one too full
// to list it and that has more than one destination itself.
func (t *Tree[V]) chain(prefix Key) *Chain[V] {
	at, lessSpecific := t.root, (*node[V])(nil)
	for at.prefix != prefix {
		if at.value != nil {
			lessSpecific = at
		}
		if at.size <= leafSize || len(prefix) <= len(at.prefix) {
			return nil
		}
		_, child := at.child(prefix)
		if child == nil || child.size < 2 || !strings.HasPrefix(string(prefix), string(child.prefix)) {
			return nil
		}
		at = child
	}
	chain := &Chain[V]{Prefix: prefix}
	at.list(chain)
	if at.value == nil && lessSpecific != nil {
		// There is no way back to the chain that lists it.
		chain.Entries = append(chain.Entries, Entry[V]{Key: lessSpecific.prefix, Value: lessSpecific.value})
	}
	return chain
}

// list appends what the chain of a node holds. The node's own value comes last: it is the least specific.
func (n *node[V]) list(chain *Chain[V]) {
	for _, c := range n.children {
		switch {
		case c.size == 1 && c.value != nil:
			chain.Entries = append(chain.Entries, Entry[V]{Key: c.prefix, Value: c.value})
		case n.size <= leafSize || c.size == 1:
			c.list(chain)
		default:
			chain.Entries = append(chain.Entries, Entry[V]{Key: c.prefix})
		}
	}
	if n.value != nil {
		chain.Entries = append(chain.Entries, Entry[V]{Key: n.prefix, Value: n.value})
	}
}
