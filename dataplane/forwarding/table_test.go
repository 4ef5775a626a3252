package forwarding_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// tables feeds Services to a table. Their creation time is their number, see set.
type tables struct {
	*testing.T
	*forwarding.Table
}

// set gives the table the Service on a line, which was created at some time, and returns what changed in IPv4.
func (t tables) set(created int64, line string) []string {
	t.Helper()
	s := parse(t.T, line)
	settings := scenario.Defaults()
	ports, _ := forwarding.Compute(&s.Service, s.Slices, settings.Node())
	return changes(t.Update(s.Name, created, ports))
}

func (t tables) delete(name string) []string {
	return changes(t.Update(types.NamespacedName{Namespace: "ns", Name: name}, 0, nil))
}

// changes writes each change of IPv4 in a line: the port, and the addresses that it held before and holds now.
func changes(all []forwarding.Change) []string {
	lines := []string{}
	text := func(p *forwarding.ServicePort) string {
		if p == nil {
			return "gone"
		}
		var keys []string
		for _, f := range p.Frontends {
			keys = append(keys, f.Key.String())
		}
		return fmt.Sprintf("%s (%d)", strings.Join(keys, " "), len(p.Cluster))
	}
	for _, c := range all {
		p := c.New
		if p == nil {
			p = c.Old
		}
		if !p.ID.IPv6 {
			lines = append(lines, fmt.Sprintf("%s: %s => %s", p.ID, text(c.Old), text(c.New)))
		}
	}
	return lines
}

func (t tables) expect(want, got []string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// disputes are those of IPv4.
func (t tables) disputes() []string {
	lines := []string{}
	for _, d := range t.Disputes() {
		if d.Key.IPv6 {
			continue
		}
		var waiting []string
		for _, id := range d.Waiting {
			waiting = append(waiting, id.String())
		}
		lines = append(lines, fmt.Sprintf("%s: %s before %s", d.Key, d.Holder, strings.Join(waiting, ", ")))
	}
	return lines
}

func newTables(t *testing.T) tables { return tables{t, forwarding.NewTable()} }

func TestUpdateReturnsWhatDiffers(t *testing.T) {
	x := newTables(t)
	x.expect([]string{"ns/a: gone => 172.30.0.1:80/tcp (1)"}, x.set(1, "a 172.30.0.1 80 -> 10.0.1.1"))
	x.expect(nil, x.set(1, "a 172.30.0.1 80 -> 10.0.1.1"))
	x.expect([]string{"ns/a: 172.30.0.1:80/tcp (1) => 172.30.0.1:80/tcp (2)"}, x.set(1, "a 172.30.0.1 80 -> 10.0.1.1 10.0.1.2"))
	x.expect(nil, x.set(1, "a 172.30.0.1 80 -> 10.0.1.2 10.0.1.1 10.0.1.3/dead"))
	x.expect([]string{
		"ns/a: 172.30.0.1:80/tcp (2) => gone",
		"ns/a:one: gone => 172.30.0.1:80/tcp (2)",
		"ns/a:two: gone => 172.30.0.1:81/tcp (2)",
	}, x.set(1, "a 172.30.0.1 one:80 two:81 -> 10.0.1.1 10.0.1.2"))
	x.expect([]string{"ns/a:two: 172.30.0.1:81/tcp (2) => 172.30.0.1:82/tcp (2)"},
		x.set(1, "a 172.30.0.1 one:80 two:82>81 -> 10.0.1.1 10.0.1.2"))
	x.expect([]string{
		"ns/a:one: 172.30.0.1:80/tcp (2) => gone",
		"ns/a:two: 172.30.0.1:82/tcp (2) => gone",
	}, x.delete("a"))
	x.expect(nil, x.delete("a"))
	if x.Len() != 0 {
		t.Errorf("%d Service ports are left", x.Len())
	}
}

func TestTheHolderOfAnAddressKeepsIt(t *testing.T) {
	x := newTables(t)
	x.expect([]string{"ns/young: gone => 172.30.0.2:80/tcp 192.0.2.1:80/tcp (1)"}, x.set(9, "young 172.30.0.2 80 xip=192.0.2.1 -> 10.0.1.2"))
	x.expect([]string{"ns/old: gone => 172.30.0.1:80/tcp (1)"}, x.set(1, "old 172.30.0.1 80 xip=192.0.2.1 -> 10.0.1.1"))
	x.expect([]string{"192.0.2.1:80/tcp: ns/young before ns/old"}, x.disputes())
	x.expect([]string{"ns/young: 172.30.0.2:80/tcp 192.0.2.1:80/tcp (1) => 172.30.0.2:80/tcp 192.0.2.1:80/tcp (2)"},
		x.set(9, "young 172.30.0.2 80 xip=192.0.2.1 -> 10.0.1.2 10.0.1.3"))
	x.expect([]string{"192.0.2.1:80/tcp: ns/young before ns/old"}, x.disputes())
}

func TestAnAddressIsHandedOn(t *testing.T) {
	for name, tc := range map[string]struct {
		give func(x tables) []string
		own  string
	}{
		"when the Service goes": {func(x tables) []string { return x.delete("a") },
			"ns/a: 172.30.0.1:80/tcp 192.0.2.1:80/tcp (1) => gone"},
		"when the address goes": {func(x tables) []string { return x.set(1, "a 172.30.0.1 80 -> 10.0.1.1") },
			"ns/a: 172.30.0.1:80/tcp 192.0.2.1:80/tcp (1) => 172.30.0.1:80/tcp (1)"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTables(t)
			x.set(1, "a 172.30.0.1 80 xip=192.0.2.1 -> 10.0.1.1")
			x.set(5, "late 172.30.0.5 80 vip=192.0.2.1 -> 10.0.1.5")
			x.set(3, "b 172.30.0.3 80 xip=192.0.2.1 -> 10.0.1.3")
			x.set(3, "also-3 172.30.0.4 80 xip=192.0.2.1 -> 10.0.1.4")
			x.expect([]string{"192.0.2.1:80/tcp: ns/a before ns/also-3, ns/b, ns/late"}, x.disputes())
			x.expect([]string{
				tc.own,
				"ns/also-3: 172.30.0.4:80/tcp (1) => 172.30.0.4:80/tcp 192.0.2.1:80/tcp (1)",
			}, tc.give(x))
			x.expect([]string{"192.0.2.1:80/tcp: ns/also-3 before ns/b, ns/late"}, x.disputes())
			x.expect([]string{"ns/b: 172.30.0.3:80/tcp (1) => gone"}, x.delete("b"))
			x.expect([]string{
				"ns/also-3: 172.30.0.4:80/tcp 192.0.2.1:80/tcp (1) => gone",
				"ns/late: 172.30.0.5:80/tcp (1) => 172.30.0.5:80/tcp 192.0.2.1:80/tcp (1)",
			}, x.delete("also-3"))
			x.expect(nil, x.disputes())
		})
	}
}

func TestPortsOfOneServiceSwapAddresses(t *testing.T) {
	x := newTables(t)
	x.set(1, "a 172.30.0.1 p:80^30001 q:81^30002 -> 10.0.1.1")
	x.set(2, "b 172.30.0.2 80^30001 -> 10.0.1.2")
	x.expect([]string{
		"ns/a:p: 172.30.0.1:80/tcp node port 30001/tcp (1) => 172.30.0.1:80/tcp node port 30002/tcp (1)",
		"ns/a:q: 172.30.0.1:81/tcp node port 30002/tcp (1) => 172.30.0.1:81/tcp node port 30001/tcp (1)",
	}, x.set(1, "a 172.30.0.1 p:80^30002 q:81^30001 -> 10.0.1.1"))
	x.expect([]string{"node port 30001/tcp: ns/a:q before ns/b"}, x.disputes())
}

func TestOneServiceClaimsAnAddressTwice(t *testing.T) {
	x := newTables(t)
	x.set(1, "a 172.30.0.1 p:80^30001 q:81^30001 -> 10.0.1.1")
	x.expect([]string{"node port 30001/tcp: ns/a:p before ns/a:q"}, x.disputes())
	x.expect(nil, x.set(1, "a 172.30.0.1 p:80^30001 q:81^30001 -> 10.0.1.1"))
	x.expect([]string{
		"ns/a:p: 172.30.0.1:80/tcp node port 30001/tcp (1) => gone",
		"ns/a:q: 172.30.0.1:81/tcp (1) => 172.30.0.1:81/tcp node port 30001/tcp (1)",
	}, x.set(1, "a 172.30.0.1 q:81^30001 -> 10.0.1.1"))
	x.expect(nil, x.disputes())
}

func TestBefore(t *testing.T) {
	name := func(s string) types.NamespacedName { return types.NamespacedName{Namespace: s[:1], Name: s[1:]} }
	for label, tc := range map[string]struct {
		a    int64
		an   string
		b    int64
		bn   string
		want int
	}{
		"older":           {1, "zz", 2, "aa", -1},
		"lower namespace": {1, "az", 1, "ba", -1},
		"lower name":      {1, "aa", 1, "ab", -1},
		"the same":        {1, "aa", 1, "aa", 0},
	} {
		t.Run(label, func(t *testing.T) {
			if got := forwarding.Before(tc.a, name(tc.an), tc.b, name(tc.bn)); got != tc.want {
				t.Errorf("Before is %d, want %d", got, tc.want)
			}
			if got := forwarding.Before(tc.b, name(tc.bn), tc.a, name(tc.an)); got != -tc.want {
				t.Errorf("the other way round it is %d, want %d", got, -tc.want)
			}
		})
	}
}

// Whatever happens, changes applied one after the other lead to what the table holds, every claimed address has one
// holder, and nobody is told of a change that is none.
func TestChangesAddUp(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			table, followed := forwarding.NewTable(), map[forwarding.PortID]*forwarding.ServicePort{}
			claimed := map[types.NamespacedName][]*forwarding.ServicePort{}
			settings := scenario.Defaults()
			for range 400 {
				number := r.IntN(40)
				name := types.NamespacedName{Namespace: "ns", Name: fmt.Sprintf("svc%d", number)}
				var ports []*forwarding.ServicePort
				if r.IntN(4) > 0 {
					s := parse(t, scenario.RandomService(r, number))
					ports, _ = forwarding.Compute(&s.Service, s.Slices, settings.Node())
				}
				claimed[name] = ports
				for _, c := range table.Update(name, int64(number), ports) {
					follow(t, followed, c)
				}
				check(t, table, followed, claimed)
			}
		})
	}
}

func follow(t *testing.T, followed map[forwarding.PortID]*forwarding.ServicePort, c forwarding.Change) {
	t.Helper()
	switch {
	case c.Old == nil && c.New == nil:
		t.Fatal("a change from nothing to nothing")
	case c.Old != nil && followed[c.Old.ID] != c.Old, c.Old == nil && followed[c.New.ID] != nil:
		t.Fatalf("a change of %v does not begin with what was there", c)
	case c.Old != nil && c.New != nil && cmp.Equal(*c.Old, *c.New, cmp.Comparer(func(a, b fmt.Stringer) bool { return a == b })):
		t.Fatalf("a change of %s that changes nothing", c.New.ID)
	case c.New == nil:
		delete(followed, c.Old.ID)
	default:
		followed[c.New.ID] = c.New
	}
}

func check(t *testing.T, table *forwarding.Table, followed map[forwarding.PortID]*forwarding.ServicePort,
	claimed map[types.NamespacedName][]*forwarding.ServicePort) {
	t.Helper()
	held := map[forwarding.Key]forwarding.PortID{}
	ports := 0
	for p := range table.All {
		ports++
		if followed[p.ID] != p {
			t.Fatalf("the table holds another %s than its changes led to", p.ID)
		}
		for _, f := range p.Frontends {
			if other, twice := held[f.Key]; twice {
				t.Fatalf("%s is held by %s and by %s", f.Key, other, p.ID)
			}
			held[f.Key] = p.ID
		}
	}
	if ports != len(followed) || ports != table.Len() {
		t.Fatalf("the table yields %d ports, has %d, and its changes led to %d", ports, table.Len(), len(followed))
	}
	claims := map[forwarding.Key]int{}
	for _, ports := range claimed {
		for _, p := range ports {
			for _, f := range p.Frontends {
				claims[f.Key]++
			}
		}
	}
	for key := range claims {
		if _, found := held[key]; !found {
			t.Fatalf("nobody holds %s, though it is claimed", key)
		}
	}
	maps.DeleteFunc(claims, func(_ forwarding.Key, n int) bool { return n == 1 })
	for _, d := range table.Disputes() {
		if claims[d.Key] != 1+len(d.Waiting) || held[d.Key] != d.Holder || slices.Contains(d.Waiting, d.Holder) {
			t.Fatalf("dispute %v, but %d claim it and %s holds it", d, claims[d.Key], held[d.Key])
		}
		delete(claims, d.Key)
	}
	if len(claims) > 0 {
		t.Fatalf("disputes that are not listed: %v", claims)
	}
}
