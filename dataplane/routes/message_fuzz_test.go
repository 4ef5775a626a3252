package routes

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzRoute reads routes that no kernel would list. What is taken for one of ours is one that we could have made.
func FuzzRoute(f *testing.F) {
	for _, prefix := range []string{"172.30.0.0/16", "203.0.113.1/32", "fd00::/112"} {
		c := change{kind: unix.RTM_NEWROUTE, Route: Route{Prefix: netip.MustParsePrefix(prefix), Type: Local}}
		f.Add(c.encode().Body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, ours := decode(body)
		if ours && !r.Prefix.IsValid() {
			t.Errorf("a route to nowhere is taken for ours: %+v", r)
		}
	})
}
