package netlink_test

import (
	"bytes"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// FuzzAttributes reads what no kernel would write: every attribute has to lie within its message, and reading has to end.
func FuzzAttributes(f *testing.F) {
	var a netlink.Attributes
	a.Uint8(1, 7)
	a.Nested(2, func(a *netlink.Attributes) { a.String(3, "text") })
	f.Add([]byte(a))
	f.Add([]byte{0, 0, 1, 0})
	f.Add([]byte{255, 255, 1, 0})
	f.Add([]byte{5, 0, 1, 0, 9})
	f.Fuzz(func(t *testing.T, message []byte) {
		rest, whole := message, 0
		for {
			before := len(rest)
			attribute, ok := netlink.Next(&rest)
			if !ok {
				break
			}
			if len(rest) >= before || !bytes.Contains(attribute.Whole, attribute.Value) {
				t.Fatalf("%d bytes are left of %d after an attribute of %d with a value of %d",
					len(rest), before, len(attribute.Whole), len(attribute.Value))
			}
			whole += len(attribute.Whole)
			_ = netlink.Text(attribute.Value)
		}
		if whole+len(rest) != len(message) {
			t.Errorf("%d bytes were read of %d, and %d are left", whole, len(message), len(rest))
		}
	})
}
