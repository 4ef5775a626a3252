package dispatch_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables/dispatch"
)

// The most entries that a chain may have: one for each nibble and one for a value of its own and of a shorter key.
const (
	widest  = 16 + 2
	deepest = 16 // nested chains that nf_tables allows (NFT_JUMP_STACK_SIZE)
)

// space is a place from which keys are drawn.
type space struct {
	addressNibbles int
	draw           func(*rand.Rand) forwarding.Key
}

func protocol(r *rand.Rand) forwarding.Protocol {
	return []forwarding.Protocol{forwarding.TCP, forwarding.TCP, forwarding.UDP, forwarding.SCTP}[r.IntN(4)]
}

func spaces() map[string]space {
	v4 := func(r *rand.Rand, size uint32) netip.Addr {
		n := r.Uint32N(size)
		return netip.AddrFrom4([4]byte{10, 96 + byte(n>>16&15), byte(n >> 8), byte(n)})
	}
	v6 := func(r *rand.Rand, size uint32) netip.Addr {
		n := r.Uint32N(size)
		return netip.AddrFrom16([16]byte{0xfd, 0, 0x96, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
	}
	port := func(r *rand.Rand) uint16 { return []uint16{53, 80, 443, 8080}[r.IntN(4)] }
	return map[string]space{
		"IPv4 spread": {8, func(r *rand.Rand) forwarding.Key {
			return forwarding.Key{Addr: v4(r, 1<<20), Port: port(r), Protocol: protocol(r)}
		}},
		"IPv4 dense": {8, func(r *rand.Rand) forwarding.Key {
			return forwarding.Key{Addr: v4(r, 64), Port: port(r), Protocol: protocol(r)}
		}},
		"IPv4 anywhere": {8, func(r *rand.Rand) forwarding.Key {
			n := r.Uint32()
			addr := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			return forwarding.Key{Addr: addr, Port: uint16(r.UintN(65535) + 1), Protocol: protocol(r)}
		}},
		"IPv4, many ports on few addresses": {8, func(r *rand.Rand) forwarding.Key {
			return forwarding.Key{Addr: v4(r, 3), Port: uint16(r.UintN(500) + 1), Protocol: protocol(r)}
		}},
		"IPv4, whole addresses among ports": {8, func(r *rand.Rand) forwarding.Key {
			if r.IntN(4) == 0 {
				return forwarding.Key{Addr: v4(r, 5)}
			}
			return forwarding.Key{Addr: v4(r, 5), Port: uint16(r.UintN(60) + 1), Protocol: protocol(r)}
		}},
		"IPv6 spread": {32, func(r *rand.Rand) forwarding.Key {
			return forwarding.Key{Addr: v6(r, 1<<31), Port: port(r), Protocol: protocol(r), IPv6: true}
		}},
		"IPv6 dense": {32, func(r *rand.Rand) forwarding.Key {
			return forwarding.Key{Addr: v6(r, 100), Port: port(r), Protocol: protocol(r), IPv6: true}
		}},
		"node ports": {0, func(r *rand.Rand) forwarding.Key {
			return forwarding.Key{Port: uint16(30000 + r.UintN(2768)), Protocol: protocol(r)}
		}},
	}
}

// chains are the chains of a tree as somebody has them who follows Dirty.
type chains map[dispatch.Key][]entry

// entry is an Entry that can be compared: Leads is set where the chain of Key goes on.
type entry struct {
	Key   dispatch.Key
	Leads bool
	Value int
}

func (c chains) follow(t *dispatch.Tree[int]) {
	t.Dirty(func(prefix dispatch.Key, chain *dispatch.Chain[int]) {
		if chain == nil {
			delete(c, prefix)
			return
		}
		entries := []entry{}
		for _, e := range chain.Entries {
			if e.Value == nil {
				entries = append(entries, entry{Key: e.Key, Leads: true})
			} else {
				entries = append(entries, entry{Key: e.Key, Value: *e.Value})
			}
		}
		c[prefix] = entries
	})
}

func (m model) chains() chains {
	t := dispatch.New[int]()
	for key, value := range m {
		t.Set(key, value)
	}
	c := chains{}
	c.follow(t)
	return c
}

// walk sends a packet through the chains as the kernel does: the first entry that fits decides, and there is no way back.
func (c chains) walk(packet dispatch.Key) (value int, found bool, depth int) {
	for prefix := dispatch.Key(""); ; {
		i := slices.IndexFunc(c[prefix], func(e entry) bool { return strings.HasPrefix(string(packet), string(e.Key)) })
		depth++
		if i < 0 {
			return 0, false, depth
		}
		e := c[prefix][i]
		if !e.Leads {
			return e.Value, true, depth
		}
		prefix = e.Key
	}
}

// model is what a tree maps, without being a tree.
type model map[dispatch.Key]int

// scan finds the most specific key that fits a packet.
func (m model) scan(packet dispatch.Key) (int, bool) {
	best, found := dispatch.Key(""), false
	for key := range m {
		if strings.HasPrefix(string(packet), string(key)) && (!found || len(key) > len(best)) {
			best, found = key, true
		}
	}
	return m[best], found
}

func (m model) check(t *testing.T, c chains) {
	t.Helper()
	if fresh := m.chains(); !maps.EqualFunc(fresh, c, slices.Equal) { // cmp.Diff of what is equal takes long
		t.Fatalf("the chains that Dirty led to are not those of a fresh tree (-fresh +followed):\n%s", cmp.Diff(fresh, c))
	}
	for prefix, entries := range c {
		if len(entries) > widest {
			t.Errorf("chain %q has %d entries, at most %d are allowed", prefix, len(entries), widest)
		}
		if len(entries) == 0 && prefix != "" {
			t.Errorf("chain %q is empty", prefix)
		}
	}
}

func (m model) checkPacket(t *testing.T, c chains, packet dispatch.Key) {
	t.Helper()
	wantValue, want := m.scan(packet)
	value, found, depth := c.walk(packet)
	if found != want || value != wantValue {
		t.Fatalf("packet %x: chains lead to %d (found: %v), scanning all keys to %d (found: %v)", packet, value, found, wantValue, want)
	}
	if depth > deepest {
		t.Errorf("packet %x passes %d chains, at most %d are allowed", packet, depth, deepest)
	}
}

func TestTreeFollowsAnySequenceOfChanges(t *testing.T) {
	for name, space := range spaces() {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/seed %d", name, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				tree, followed, want := dispatch.New[int](), chains{}, model{}
				peak := []int{12, 60, 600}[seed%3]
				for step := range 250 {
					// Grow to the peak, shrink to nothing, and grow again.
					growing := step/80%2 == 0
					for range 1 + r.IntN(max(2, peak/20)) {
						if growing && len(want) < peak || len(want) == 0 {
							key := dispatch.KeyOf(space.draw(r))
							want[key] = r.IntN(1000)
							tree.Set(key, want[key])
						} else {
							keys := slices.Sorted(maps.Keys(want))
							key := keys[r.IntN(len(keys))]
							delete(want, key)
							tree.Delete(key)
						}
					}
					tree.Delete(dispatch.KeyOf(forwarding.Key{Port: 1, Protocol: forwarding.TCP})) // of no key
					followed.follow(tree)
					if tree.Len() != len(want) {
						t.Fatalf("Len is %d, %d keys are set", tree.Len(), len(want))
					}
					if step%20 != 0 {
						continue
					}
					want.check(t, followed)
					for key, value := range want {
						if got, found := tree.Get(key); !found || got != value {
							t.Fatalf("Get of %x is %d (found: %v), want %d", key, got, found, value)
						}
						if len(key) > space.addressNibbles {
							want.checkPacket(t, followed, key)
						}
					}
					for range 50 {
						packet := dispatch.KeyOf(space.draw(r))
						got, found := tree.Get(packet)
						if value, set := want[packet]; found != set || got != value {
							t.Fatalf("Get of %x is %d (found: %v), want %d (found: %v)", packet, got, found, value, set)
						}
						if len(packet) > space.addressNibbles {
							want.checkPacket(t, followed, packet)
						}
					}
				}
			})
		}
	}
}

func TestTreeStaysShallow(t *testing.T) {
	const keys = 20000
	// How many chains a packet may pass at most: what is common to all costs nothing, then one chain for each nibble.
	bounds := map[string]int{
		"IPv4 spread": 6, "IPv4 dense": 5, "IPv4 anywhere": 6, "IPv4, many ports on few addresses": 6,
		"IPv4, whole addresses among ports": 5, "IPv6 spread": 6, "IPv6 dense": 5, "node ports": 5,
	}
	for name, space := range spaces() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			tree, c, want := dispatch.New[int](), chains{}, model{}
			for i := range keys {
				key := dispatch.KeyOf(space.draw(r))
				want[key] = i
				tree.Set(key, i)
			}
			c.follow(tree)
			deepest := 0
			for key, value := range want {
				got, found, depth := c.walk(key)
				if len(key) > space.addressNibbles && (!found || got != value) {
					t.Fatalf("key %x: found %d (%v), want %d", key, got, found, value)
				}
				deepest = max(deepest, depth)
			}
			if deepest > bounds[name] {
				t.Errorf("a packet passes up to %d chains, want at most %d", deepest, bounds[name])
			}
			for prefix, entries := range c {
				if len(entries) > widest {
					t.Errorf("chain %q has %d entries, at most %d are allowed", prefix, len(entries), widest)
				}
			}
		})
	}
}

// A change must not cost more than the chains on its way down and around it, however many keys there are.
func TestTreeTouchesLittle(t *testing.T) {
	for name, space := range spaces() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(2, 1))
			tree, c := dispatch.New[int](), chains{}
			for i := range 5000 {
				tree.Set(dispatch.KeyOf(space.draw(r)), i)
			}
			c.follow(tree)
			for i := range 500 {
				before := maps.Clone(c)
				key := dispatch.KeyOf(space.draw(r))
				if i%2 == 0 {
					tree.Set(key, -i)
				} else {
					tree.Delete(key)
				}
				c.follow(tree)
				changed := 0
				for prefix := range c {
					if !slices.Equal(before[prefix], c[prefix]) {
						changed++
					}
				}
				// A whole address also ends the chains of its ports.
				if limit := 12; changed > limit && len(key) > space.addressNibbles {
					t.Fatalf("one change wrote %d chains, want at most %d", changed, limit)
				}
			}
		})
	}
}

func TestTouchAll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	tree, followed := dispatch.New[int](), chains{}
	for i := range 300 {
		tree.Set(dispatch.KeyOf(spaces()["IPv4 dense"].draw(r)), i)
	}
	followed.follow(tree)
	again := chains{}
	again.follow(tree)
	if len(again) > 0 {
		t.Errorf("%d chains are said to have changed though nothing has", len(again))
	}
	tree.TouchAll()
	again.follow(tree)
	if diff := cmp.Diff(followed, again); diff != "" {
		t.Errorf("TouchAll does not lead to all chains (-all +visited):\n%s", diff)
	}
}

func TestEmptyTreeHasARoot(t *testing.T) {
	c := chains{}
	c.follow(dispatch.New[int]())
	if diff := cmp.Diff(chains{"": {}}, c); diff != "" {
		t.Errorf("chains of an empty tree (-want +got):\n%s", diff)
	}
}

// FuzzTree reads a sequence of changes from bytes: the lowest bit says set or delete, the rest and the next byte say what.
func FuzzTree(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte(strings.Repeat("0123456789abcdef", 8)))
	f.Fuzz(func(t *testing.T, changes []byte) {
		tree, followed, want := dispatch.New[int](), chains{}, model{}
		for i := 0; i+1 < len(changes); i += 2 {
			k := forwarding.Key{Addr: netip.AddrFrom4([4]byte{10, 0, 0, changes[i] >> 5})}
			if b := changes[i+1]; b != 0 { // otherwise the whole address
				k.Port, k.Protocol = uint16(b)*(1+uint16(changes[i]>>1&3)*17), forwarding.TCP
			}
			key := dispatch.KeyOf(k)
			if changes[i]&1 == 0 {
				tree.Set(key, i)
				want[key] = i
			} else {
				tree.Delete(key)
				delete(want, key)
			}
			if i%3 == 0 {
				followed.follow(tree)
			}
		}
		followed.follow(tree)
		want.check(t, followed)
		for address := range byte(8) {
			for port := range uint16(260) {
				want.checkPacket(t, followed, dispatch.KeyOf(forwarding.Key{
					Addr: netip.AddrFrom4([4]byte{10, 0, 0, address}), Port: port + 1, Protocol: forwarding.TCP,
				}))
			}
		}
	})
}
