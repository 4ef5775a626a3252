package laststate_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
)

// withAddresses lets cmp compare addresses and networks.
func withAddresses() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

// complete is a snapshot in which every field of every type has a value of its own.
func complete() *catalog.Snapshot {
	return &catalog.Snapshot{
		Taken:    time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC),
		NodeName: "worker-1",
		World: catalog.World{
			Node: catalog.Node{
				Zone:      "zone-a",
				PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")},
				Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
				Leaving:   true,
			},
			ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		},
		Entries: []catalog.Entry{{
			Name: types.NamespacedName{Namespace: "shop", Name: "cart"},
			Service: &forwarding.Service{
				Name:            types.NamespacedName{Namespace: "shop", Name: "cart"},
				Created:         1000,
				ClusterIPs:      []netip.Addr{netip.MustParseAddr("10.96.1.1"), netip.MustParseAddr("fd00:10:96::1")},
				ExternalIPs:     []netip.Addr{netip.MustParseAddr("198.51.100.1")},
				LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1")},
				SourceRanges:    []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
				Ports:           []forwarding.Port{{Name: "http", Protocol: forwarding.TCP, Port: 80, NodePort: 30080}},
				InternalLocal:   true, ExternalLocal: true, AffinitySeconds: 10800, HealthCheckNodePort: 32000, Foreign: true,
			},
			Slices: []*forwarding.Slice{{
				Ports: []forwarding.SlicePort{{Name: "http", Protocol: forwarding.TCP, Port: 8080}},
				Endpoints: []forwarding.Endpoint{{
					Addr: netip.MustParseAddr("10.244.1.7"), Ready: true, Serving: true, Terminating: true, Local: true,
					NodeHints: true, ThisNode: true, ZoneHints: []string{"zone-a", "zone-b"},
				}, {Addr: netip.MustParseAddr("10.244.2.9")}},
			}, {}},
		}, {
			Name:    types.NamespacedName{Namespace: "default", Name: "kubernetes"},
			Service: &forwarding.Service{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}},
		}},
	}
}

func TestATableThatIsSavedIsReadAgain(t *testing.T) {
	folder := laststate.Folder(filepath.Join(t.TempDir(), "not", "there", "yet"))
	if got, err := folder.Table(); got != nil || err != nil {
		t.Fatalf("before anything is saved: got %v, %v", got, err)
	}
	for _, want := range []*catalog.Snapshot{complete(), {Taken: time.Unix(1, 0).UTC()}, complete()} {
		if err := folder.SaveTable(want); err != nil {
			t.Fatal(err)
		}
		got, err := folder.Table()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, withAddresses()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if entries, err := os.ReadDir(string(folder)); err != nil || len(entries) != 1 {
			t.Errorf("in the folder: %v (%v), want one file", entries, err)
		}
	}
	if err := folder.SaveSettings(settings("one")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := folder.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(string(folder)); err != nil || len(entries) != 0 {
		t.Errorf("after everything was removed: %v (%v)", entries, err)
	}
}

// TestNoFieldIsForgotten fails when a type of the snapshot gets a field that the test does not set, and so does not know
// whether it is kept. A field that is added needs a new version of the file.
func TestNoFieldIsForgotten(t *testing.T) {
	s := complete()
	notZero(t, "Snapshot", reflect.ValueOf(*s))
	notZero(t, "Entry", reflect.ValueOf(s.Entries[0]))
	notZero(t, "Service", reflect.ValueOf(*s.Entries[0].Service))
	notZero(t, "Port", reflect.ValueOf(s.Entries[0].Service.Ports[0]))
	notZero(t, "Slice", reflect.ValueOf(*s.Entries[0].Slices[0]))
	notZero(t, "SlicePort", reflect.ValueOf(s.Entries[0].Slices[0].Ports[0]))
	notZero(t, "Endpoint", reflect.ValueOf(s.Entries[0].Slices[0].Endpoints[0]))
	notZero(t, "World", reflect.ValueOf(s.World))
	notZero(t, "Node", reflect.ValueOf(s.World.Node))
}

func notZero(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s.%s has no value here", name, v.Type().Field(i).Name)
		}
	}
}

// TestTheFirstVersionIsRead reads a file of version 1 as it was when that version was made. Where it fails, a type of the
// content has changed, and the file needs a new version.
func TestTheFirstVersionIsRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "table-1"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "table"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := laststate.Folder(dir).Table()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(complete(), got, withAddresses()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestADamagedTableIsReportedAndReplaced(t *testing.T) {
	tests := map[string]struct {
		damage func(text []byte) []byte
		says   string
	}{
		"empty":              {func([]byte) []byte { return nil }, "damaged"},
		"cut off":            {func(text []byte) []byte { return text[:len(text)/2] }, "damaged"},
		"one byte too short": {func(text []byte) []byte { return text[:len(text)-1] }, "damaged"},
		"one byte too long":  {func(text []byte) []byte { return append(text, 0) }, "damaged"},
		"only the beginning": {func(text []byte) []byte { return text[:bytes.IndexByte(text, '\n')+1] }, "damaged"},
		"one bit changed":    {func(text []byte) []byte { text[len(text)/2] ^= 1; return text }, "damaged"},
		"zeros at the end, as after a crash of some file systems": {func(text []byte) []byte {
			clear(text[len(text)/2:])
			return text
		}, "damaged"},
		"something else": {func([]byte) []byte { return bytes.Repeat([]byte("{}"), 1<<20) }, "damaged"},
		"of a newer agent": {func(text []byte) []byte {
			return bytes.Replace(text, []byte("table 1\n"), []byte("table 2\n"), 1)
		}, "version 2, and this agent knows version 1"},
		"of an older agent": {func(text []byte) []byte {
			return bytes.Replace(text, []byte("table 1\n"), []byte("table 0\n"), 1)
		}, "version 0, and this agent knows version 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder := laststate.Folder(dir)
			if err := folder.SaveTable(complete()); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "table")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, test.damage(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := folder.Table()
			if got != nil || err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v and error %v, want an error that names the file and says %q", got, err, test.says)
			}
			if err := folder.SaveTable(complete()); err != nil {
				t.Fatal(err)
			}
			if got, err = folder.Table(); err != nil || len(got.Entries) != 2 {
				t.Errorf("after it was replaced: got %v, %v", got, err)
			}
		})
	}
}

func TestATableThatCannotBeWrittenIsAnErrorThatSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, folder := range map[string]string{"a file": file, "below a file": filepath.Join(file, "state"), "read-only": "/proc/state"} {
		t.Run(name, func(t *testing.T) {
			err := laststate.Folder(folder).SaveTable(complete())
			if err == nil || !strings.Contains(err.Error(), "--state-dir") || !strings.Contains(err.Error(), folder) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// large is a cluster of Services with as many endpoints each.
func large(services, endpoints int) *catalog.Snapshot {
	s := &catalog.Snapshot{Taken: time.Now(), World: complete().World}
	addr := func(first byte, n int) netip.Addr {
		return netip.AddrFrom4([4]byte{first, byte(n >> 16), byte(n >> 8), byte(n)})
	}
	for i := range services {
		name := types.NamespacedName{Namespace: fmt.Sprintf("namespace-%d", i%200), Name: fmt.Sprintf("service-%d", i)}
		slice := &forwarding.Slice{Ports: []forwarding.SlicePort{{Name: "http", Protocol: forwarding.TCP, Port: 8080}}}
		for j := range endpoints {
			slice.Endpoints = append(slice.Endpoints, forwarding.Endpoint{Addr: addr(10, i*endpoints+j), Ready: true, Serving: true})
		}
		s.Entries = append(s.Entries, catalog.Entry{
			Name: name,
			Service: &forwarding.Service{Name: name, Created: 1e9, ClusterIPs: []netip.Addr{addr(100, i)},
				Ports: []forwarding.Port{{Name: "http", Protocol: forwarding.TCP, Port: 80}}},
			Slices: []*forwarding.Slice{slice},
		})
	}
	return s
}

// BenchmarkTable saves and reads the table of 20,000 Services, and says how large it is and how much more memory is in use
// while it is written.
func BenchmarkTable(b *testing.B) {
	for _, endpoints := range []int{1, 10} {
		s, folder := large(20_000, endpoints), laststate.Folder(b.TempDir())
		b.Run(fmt.Sprintf("save/20000x%d", endpoints), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				if err := folder.SaveTable(s); err != nil {
					b.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			info, err := os.Stat(filepath.Join(string(folder), "table"))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size()), "bytes")
			b.ReportMetric(float64(after.HeapSys-before.HeapSys), "heap-growth")
		})
		b.Run(fmt.Sprintf("read/20000x%d", endpoints), func(b *testing.B) {
			for b.Loop() {
				if _, err := folder.Table(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
