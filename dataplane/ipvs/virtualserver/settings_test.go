package virtualserver_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

func TestWrites(t *testing.T) {
	always := []conntrack.Write{
		{Path: "proc/sys/net/ipv4/vs/conntrack", Value: 1},
		{Path: "proc/sys/net/ipv4/vs/expire_nodest_conn", Value: 1},
		{Path: "proc/sys/net/ipv4/vs/expire_quiescent_template", Value: 1},
		{Path: "proc/sys/net/ipv4/ip_forward", Value: 1},
	}
	reuse := conntrack.Write{Path: "proc/sys/net/ipv4/vs/conn_reuse_mode", Value: 0}
	for name, test := range map[string]struct {
		release   string
		strictARP bool
		more      []conntrack.Write
	}{
		"new kernel":            {"6.1.0-44-amd64", false, nil},
		"ten is more than nine": {"5.10.0-33-cloud-amd64", false, nil},
		"first good kernel":     {"5.9.0", false, nil},
		"first good candidate":  {"5.9-rc1", false, nil},
		"last bad kernel":       {"5.8.18", false, []conntrack.Write{reuse}},
		"old kernel":            {"4.19.0-27-amd64", false, []conntrack.Write{reuse}},
		"unheard of":            {"next", false, nil},
		"strict ARP": {"6.1", true, []conntrack.Write{
			{Path: "proc/sys/net/ipv4/conf/all/arp_ignore", Value: 1},
			{Path: "proc/sys/net/ipv4/conf/all/arp_announce", Value: 2},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := slices.Concat(always, test.more)
			if diff := cmp.Diff(want, virtualserver.Writes(test.release, test.strictARP)); diff != "" {
				t.Errorf("Writes() (-want +got):\n%s", diff)
			}
		})
	}
}
