package xtables_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

func TestWalk(t *testing.T) {
	dump := xtables.Dump{
		"START": {
			" ! -s 10.0.0.0/8 -d 172.30.0.0/16 -j MARK --set-xmark 0x4000/0x4000",
			" -d 172.30.0.0/24 -g BRANCH",
			" -d 172.30.1.0/24 -g OTHER",
			" ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j NODEPORTS",
		},
		"BRANCH": {
			` -d 172.30.0.1/32 -p tcp -m tcp --dport 81 -m comment --comment "shop/web cluster IP" -j DNAT --to-destination 10.0.0.1:81`,
			` -d 172.30.0.1/32 -p udp -m udp --dport 80 -m comment --comment "shop/web cluster IP" -j DNAT --to-destination 10.0.0.1:53`,
			` -d 172.30.0.1/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web cluster IP" -g POOL`,
			" -p tcp -j REJECT --reject-with tcp-reset",
		},
		"POOL": {
			" -p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.0.0.1:80",
			" -p tcp -j DNAT --to-destination 10.0.0.2:80",
			" -j DROP",
		},
		"OTHER":     {" -j DROP"},
		"NODEPORTS": {" -p tcp -m tcp --dport 30000:30015 -j NODEPORTS", " -p tcp -m tcp --dport 30001 -j POOL"},
	}
	tests := map[string]struct {
		to   string
		want []string
	}{
		"a port of a Service": {"172.30.0.1:80", []string{
			"-A START" + dump["START"][0], "-A START" + dump["START"][1], "-A BRANCH" + dump["BRANCH"][2], "-A POOL" + dump["POOL"][0], "-A POOL" + dump["POOL"][1],
		}},
		"another port": {"172.30.0.1:82", []string{
			"-A START" + dump["START"][0], "-A START" + dump["START"][1], "-A BRANCH" + dump["BRANCH"][3],
		}},
		"a node port, through a chain that leads to itself": {"192.0.2.1:30001", []string{
			"-A START" + dump["START"][3], "-A NODEPORTS" + dump["NODEPORTS"][0], "-A NODEPORTS" + dump["NODEPORTS"][1],
			"-A POOL" + dump["POOL"][0], "-A POOL" + dump["POOL"][1],
		}},
		"nothing": {"127.0.0.1:30001", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, step := range dump.Walk("START", netip.MustParseAddrPort(test.to), forwarding.TCP) {
				got = append(got, step.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}
