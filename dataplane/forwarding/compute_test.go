package forwarding_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// What becomes of packets, for every policy, is in test/conformance/vectors.txt and tried by TestTable there. Here are
// the things that packets do not show.

func parse(t *testing.T, line string) *scenario.Service {
	t.Helper()
	s, err := scenario.ParseService(line)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func compute(t *testing.T, line string, change func(*scenario.Settings)) []*forwarding.ServicePort {
	t.Helper()
	settings := scenario.Defaults()
	if change != nil {
		change(&settings)
	}
	s := parse(t, line)
	ports, problems := forwarding.Compute(&s.Service, s.Slices, settings.Node())
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	return ports
}

// routes writes a frontend in one line: its key, then for pods, the node and others the pool and an M if they are
// masqueraded, then the verdict for everybody else.
func routes(f *forwarding.Frontend) string {
	words := []string{f.Key.String()}
	for _, r := range f.Routes {
		word := map[forwarding.Pool]string{forwarding.Nowhere: "-", forwarding.Cluster: "cluster", forwarding.Local: "local"}[r.Pool]
		if r.Masquerade {
			word += "+M"
		}
		words = append(words, word)
	}
	words = append(words, map[forwarding.Verdict]string{
		forwarding.Reject: "reject", forwarding.Drop: "drop", forwarding.Ignore: "ignore"}[f.Otherwise])
	return strings.Join(words, " ")
}

// frontendsOf are those of one family.
func frontendsOf(ports []*forwarding.ServicePort, ipv6 bool) []string {
	var lines []string
	for _, p := range ports {
		for i := range p.Frontends {
			if p.ID.IPv6 == ipv6 {
				lines = append(lines, routes(&p.Frontends[i]))
			}
		}
	}
	return lines
}

func TestComputeRoutes(t *testing.T) {
	noDetector := func(s *scenario.Settings) { s.PodCIDRs = nil }
	all := func(s *scenario.Settings) { s.MasqueradeAll = true }
	const both, remote, nobody = "-> 10.180.0.1/local 10.180.1.1", "-> 10.180.1.1", "->"
	for name, tc := range map[string]struct {
		service  string
		settings func(*scenario.Settings)
		want     []string
	}{
		"policy Cluster": {"s 172.30.0.41 80^3001 vip=1.2.3.4 " + both, nil, []string{
			"172.30.0.41:80/tcp cluster cluster+M cluster+M drop",
			"1.2.3.4:80/tcp cluster+M cluster+M cluster+M drop",
			"node port 3001/tcp cluster+M cluster+M cluster+M drop"}},
		"eTP Local": {"s 172.30.0.42 80^3002 vip=5.6.7.8 xip=192.168.99.1 eTP=Local " + both, nil, []string{
			"172.30.0.42:80/tcp cluster cluster+M cluster+M drop",
			"192.168.99.1:80/tcp cluster cluster+M local drop",
			"5.6.7.8:80/tcp cluster cluster+M local drop",
			"node port 3002/tcp cluster cluster+M local drop"}},
		"iTP Local": {"s 172.30.0.43 80^3003 iTP=Local " + both, nil, []string{
			"172.30.0.43:80/tcp local local+M local+M drop",
			"node port 3003/tcp cluster+M cluster+M cluster+M drop"}},
		"eTP Local, pods unknown": {"s 172.30.0.42 80^3002 eTP=Local " + both, noDetector, []string{
			"172.30.0.42:80/tcp cluster cluster cluster drop",
			"node port 3002/tcp local cluster+M local drop"}},
		"eTP Local, masqueradeAll": {"s 172.30.0.42 80^3002 eTP=Local " + both, all, []string{
			"172.30.0.42:80/tcp cluster+M cluster+M cluster+M drop",
			"node port 3002/tcp cluster cluster+M local drop"}},
		"eTP Local, all elsewhere": {"s 172.30.0.42 80^3002 eTP=Local " + remote, nil, []string{
			"172.30.0.42:80/tcp cluster cluster+M cluster+M drop",
			"node port 3002/tcp cluster cluster+M - drop"}},
		"iTP Local, all elsewhere": {"s 172.30.0.42 80 iTP=Local " + remote, nil, []string{
			"172.30.0.42:80/tcp - - - drop"}},
		"no endpoint": {"s 172.30.0.42 80^3002 vip=5.6.7.8 eTP=Local iTP=Local " + nobody, nil, []string{
			"172.30.0.42:80/tcp - - - reject",
			"5.6.7.8:80/tcp - - - reject",
			"node port 3002/tcp - - - reject"}},
		"foreign": {"s 172.30.0.42 80^3002 vip=5.6.7.8 foreign " + both, nil, []string{
			"172.30.0.42:0/unknown - - - ignore"}},
		"several ports": {"s 172.30.0.42 http:80 dns:53/udp sctp:7/sctp^3000 " + nobody, nil, []string{
			"172.30.0.42:80/tcp - - - reject",
			"172.30.0.42:53/udp - - - reject",
			"172.30.0.42:7/sctp - - - reject",
			"node port 3000/sctp - - - reject"}},
		"one address named twice": {"s 172.30.0.42 80 vip=5.6.7.8,5.6.7.8 xip=5.6.7.8 " + nobody, nil, []string{
			"172.30.0.42:80/tcp - - - reject",
			"5.6.7.8:80/tcp - - - reject"}},
	} {
		t.Run(name, func(t *testing.T) {
			ports := compute(t, tc.service, tc.settings)
			if diff := cmp.Diff(tc.want, frontendsOf(ports, false)); diff != "" {
				t.Errorf("IPv4 (-want +got):\n%s", diff)
			}
			if got := len(frontendsOf(ports, true)); got != len(tc.want) {
				t.Errorf("%d frontends in IPv6, want %d as in IPv4", got, len(tc.want))
			}
		})
	}
}

func TestComputeFamilies(t *testing.T) {
	s := parse(t, "s 172.30.0.41 80^3001 vip=1.2.3.4 xip=192.168.99.1 ranges=203.0.113.0/25 -> 10.180.0.1 10.180.0.2")
	s.ClusterIPs = s.ClusterIPs[:1] // IPv4
	settings := scenario.Defaults()
	ports, _ := forwarding.Compute(&s.Service, s.Slices, settings.Node())
	if len(ports) != 1 || ports[0].ID.IPv6 {
		t.Fatalf("an IPv4 Service has %d ports, want one in IPv4", len(ports))
	}
	for _, b := range ports[0].Cluster {
		if b.Addr().Is6() {
			t.Errorf("backend %s of an IPv4 frontend", b)
		}
	}
	for _, f := range ports[0].Frontends {
		if f.Key.Addr.Is6() || f.Key.IPv6 {
			t.Errorf("frontend %s of an IPv4 Service", f.Key)
		}
	}
}

func TestComputeSources(t *testing.T) {
	prefixes := func(texts ...string) []netip.Prefix {
		var all []netip.Prefix
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	for name, tc := range map[string]struct {
		ranges []netip.Prefix
		want   []netip.Prefix // for IPv4
	}{
		"none":                        {nil, nil},
		"some":                        {prefixes("203.0.113.0/25", "198.51.100.7/32"), prefixes("203.0.113.0/25", "198.51.100.7/32")},
		"one that has the node":       {prefixes("192.168.0.0/24"), prefixes("192.168.0.0/24", "1.2.3.4/32", "5.6.7.8/32")},
		"everybody":                   {prefixes("0.0.0.0/0"), nil},
		"some and everybody":          {prefixes("203.0.113.0/25", "0.0.0.0/0"), nil},
		"those of the other family":   {prefixes("2001:db8::/64"), nil},
		"everybody of another family": {prefixes("203.0.113.0/25", "::/0"), prefixes("203.0.113.0/25")},
	} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, "s 172.30.0.41 80^3001 vip=1.2.3.4,5.6.7.8 xip=9.9.9.9 -> 10.180.0.1")
			s.SourceRanges = tc.ranges
			settings := scenario.Defaults()
			ports, _ := forwarding.Compute(&s.Service, s.Slices, settings.Node())
			for _, f := range ports[0].Frontends {
				want := tc.want
				if f.Kind != forwarding.LoadBalancerIP {
					want = nil
				}
				if !slices.Equal(want, f.Sources) {
					t.Errorf("sources of %s %s are %v, want %v", f.Kind, f.Key, f.Sources, want)
				}
			}
		})
	}
}

func TestComputeBackends(t *testing.T) {
	for name, tc := range map[string]struct {
		endpoints      string
		cluster, local string
	}{
		"sorted, each once":                  {"10.0.1.9 10.0.1.10/local 10.0.1.9", "10.0.1.9:80 10.0.1.10:80", "10.0.1.10:80"},
		"terminating in one list":            {"10.0.1.1/terminating 10.0.1.1", "10.0.1.1:80", ""},
		"terminating in the other list":      {"10.0.1.1 10.0.1.1/terminating", "10.0.1.1:80", ""},
		"not usable in one list":             {"10.0.1.1/dead 10.0.1.1/local", "10.0.1.1:80", "10.0.1.1:80"},
		"ready before terminating":           {"10.0.1.1/terminating 10.0.1.2", "10.0.1.2:80", ""},
		"topology does not bind the last":    {"10.0.1.1/terminating/zone=B 10.0.1.2/terminating/zone=A", "10.0.1.1:80 10.0.1.2:80", ""},
		"hints of what is not ready":         {"10.0.1.1/zone=A 10.0.1.2/unready 10.0.1.3/zone=B", "10.0.1.1:80", ""},
		"local ones whatever their hints":    {"10.0.1.1/local/zone=B 10.0.1.2/zone=A", "10.0.1.2:80", "10.0.1.1:80"},
		"each pool falls back by itself":     {"10.0.1.1/local/terminating 10.0.1.2", "10.0.1.2:80", "10.0.1.1:80"},
		"terminating elsewhere is no local":  {"10.0.1.1/terminating", "10.0.1.1:80", ""},
		"zone hints beside no hints of node": {"10.0.1.1/node=n1 10.0.1.2/node=n1,n2 10.0.1.3/zone=A", "10.0.1.1:80 10.0.1.2:80 10.0.1.3:80", ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := func(backends []netip.AddrPort) string {
				var words []string
				for _, b := range backends {
					words = append(words, b.String())
				}
				return strings.Join(words, " ")
			}
			p := compute(t, "s 172.30.0.41 80^3001 eTP=Local -> "+tc.endpoints, nil)[0]
			if got := text(p.Cluster); got != tc.cluster {
				t.Errorf("cluster pool is %q, want %q", got, tc.cluster)
			}
			if got := text(p.Local); got != tc.local {
				t.Errorf("local pool is %q, want %q", got, tc.local)
			}
		})
	}
}

// A pool that no policy asks for stays empty, so that its changes are none.
func TestComputeLeavesOutUnusedPools(t *testing.T) {
	const endpoints = " -> 10.0.1.1/local 10.0.1.2"
	for name, tc := range map[string]struct {
		service        string
		cluster, local int
	}{
		"policy Cluster":                    {"s 172.30.0.41 80^3001" + endpoints, 2, 0},
		"eTP Local without outside address": {"s 172.30.0.41 80 eTP=Local" + endpoints, 2, 0},
		"eTP Local":                         {"s 172.30.0.41 80 xip=1.2.3.4 eTP=Local" + endpoints, 2, 1},
		"iTP Local":                         {"s 172.30.0.41 80 iTP=Local" + endpoints, 0, 1},
		"iTP Local and outside address":     {"s 172.30.0.41 80 vip=1.2.3.4 iTP=Local" + endpoints, 2, 1},
		"both policies Local":               {"s 172.30.0.41 80^3001 iTP=Local eTP=Local" + endpoints, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := compute(t, tc.service, nil)[0]
			if len(p.Cluster) != tc.cluster || len(p.Local) != tc.local {
				t.Errorf("pools have %d and %d backends, want %d and %d", len(p.Cluster), len(p.Local), tc.cluster, tc.local)
			}
		})
	}
}

func TestComputeRefusesServiceAddressesAsEndpoints(t *testing.T) {
	s := parse(t, "s 172.30.0.41 80 -> 172.30.0.42 10.0.1.1")
	settings := scenario.Defaults()
	ports, problems := forwarding.Compute(&s.Service, s.Slices, settings.Node())
	if got := ports[0].Cluster; len(got) != 1 || got[0] != netip.MustParseAddrPort("10.0.1.1:80") {
		t.Errorf("backends are %v, want 10.0.1.1:80 alone", got)
	}
	if len(problems) != 2 || !strings.Contains(problems[0].Message, "172.30.0.42") {
		t.Errorf("problems are %v, want one in each family that names the address", problems)
	}
}
