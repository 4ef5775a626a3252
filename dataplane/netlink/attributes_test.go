package netlink_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

type read struct {
	Kind  uint16
	Value string
}

func readAll(attributes []byte) (found []read) {
	netlink.Each(attributes, func(kind uint16, value []byte) { found = append(found, read{kind, string(value)}) })
	return found
}

func TestAttributes(t *testing.T) {
	for name, test := range map[string]struct {
		write func(a *netlink.Attributes)
		want  []read
	}{
		"none":             {func(*netlink.Attributes) {}, nil},
		"a byte":           {func(a *netlink.Attributes) { a.Uint8(1, 7) }, []read{{1, "\x07"}}},
		"a network number": {func(a *netlink.Attributes) { a.NetUint16(2, 0x0102) }, []read{{2, "\x01\x02"}}},
		"a longer one":     {func(a *netlink.Attributes) { a.NetUint32(3, 0x01020304) }, []read{{3, "\x01\x02\x03\x04"}}},
		"a text":           {func(a *netlink.Attributes) { a.String(4, "text") }, []read{{4, "text\x00"}}},
		"nothing":          {func(a *netlink.Attributes) { a.Bytes(5, nil) }, []read{{5, ""}}},
		"one after another, padded": {
			func(a *netlink.Attributes) { a.Uint8(1, 7); a.String(2, "four"); a.Bytes(3, []byte{1, 2, 3}) },
			[]read{{1, "\x07"}, {2, "four\x00"}, {3, "\x01\x02\x03"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var a netlink.Attributes
			test.write(&a)
			if len(a)%4 != 0 {
				t.Errorf("%d bytes are not aligned", len(a))
			}
			if diff := cmp.Diff(test.want, readAll(a)); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNestedAttributes(t *testing.T) {
	var a netlink.Attributes
	a.Nested(1, func(a *netlink.Attributes) {
		a.NetUint32(2, 9)
		a.Nested(3, func(*netlink.Attributes) {})
	})
	a.Uint8(4, 1)
	found := readAll(a)
	if len(found) != 2 || found[0].Kind != 1 || found[1].Kind != 4 {
		t.Fatalf("found %v, want attributes 1 and 4", found)
	}
	want := []read{{2, "\x00\x00\x00\x09"}, {3, ""}}
	if diff := cmp.Diff(want, readAll([]byte(found[0].Value))); diff != "" {
		t.Errorf("read within (-want +got):\n%s", diff)
	}
}

func TestEachEndsWhereAttributesAreCutOff(t *testing.T) {
	var a netlink.Attributes
	a.NetUint32(1, 9)
	a.String(2, "text")
	for length := range a {
		if found := readAll(a[:length]); len(found) > 2 {
			t.Errorf("%d attributes in %d bytes", len(found), length)
		}
	}
	if found := readAll([]byte{0, 0, 1, 0, 4, 0, 2, 0}); found != nil {
		t.Errorf("found %v behind an attribute shorter than its own header", found)
	}
}

func TestNextHasAnAttributeAsItGoesIntoAnotherMessage(t *testing.T) {
	var a netlink.Attributes
	a.Uint8(1, 7)
	a.NetUint32(2, 9)
	var again netlink.Attributes
	for rest := []byte(a); ; {
		attribute, ok := netlink.Next(&rest)
		if !ok {
			break
		}
		again = append(again, attribute.Whole...)
	}
	if diff := cmp.Diff(a, again); diff != "" {
		t.Errorf("copied (-want +got):\n%s", diff)
	}
}
