package settings_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// release is that of some kernel with IPVS.
const release = "6.1.0-44-amd64"

func prefixes(texts ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, 0, len(texts))
	for _, t := range texts {
		parsed = append(parsed, netip.MustParsePrefix(t))
	}
	return parsed
}

func testWorld() *catalog.World {
	return &catalog.World{
		Node: catalog.Node{
			Zone:      "z",
			PodCIDRs:  prefixes("10.244.1.0/24", "fd00:10:244:1::/64"),
			Addresses: []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("2001:db8::1")},
		},
		ServiceCIDRs: prefixes("10.96.0.0/16", "fd00:10:96::/112"),
	}
}

// lookInside lets go-cmp look into addresses.
func lookInside() cmp.Options {
	return cmp.Options{

		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func TestResolve(t *testing.T) {
	defaults := func() settings.Plan {
		return settings.Plan{
			Node: forwarding.Node{
				Zone: "z", Addresses: testWorld().Node.Addresses, ServiceCIDRs: testWorld().ServiceCIDRs, DetectsPods: [2]bool{true, true},
			},
			IPTables: iptables.Settings{
				MarkBit: 14, PodCIDRs: testWorld().Node.PodCIDRs, ServiceCIDRs: testWorld().ServiceCIDRs, LocalhostNodePorts: true,
			},
			Kernel: []conntrack.Write{
				{Path: "proc/sys/net/netfilter/nf_conntrack_max", Value: 131072, AtLeast: true, Machine: true},
				{Path: "proc/sys/net/netfilter/nf_conntrack_buckets", Value: 32768, AtLeast: true, Machine: true},
				{Path: "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", Value: 86400},
				{Path: "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait", Value: 3600},
				{Path: "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", Value: 0},
				{Path: "proc/sys/net/ipv4/conf/all/route_localnet", Value: 1},
			},
			DrainTimeout: time.Hour,
			Pace:         settings.Pace{FullInterval: 10 * time.Minute},
		}
	}
	tests := map[string]struct {
		settings v1alpha1.ProxySettings
		world    func(*catalog.World)
		want     func(*settings.Plan)
	}{
		"nothing given": {want: func(*settings.Plan) {}},
		"mode IPVS": {
			settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPVS, IPVS: v1alpha1.IPVS{
				Scheduler: "lc", StrictARP: v1alpha1.SwitchEnabled, ExcludeCIDRs: []string{"10.96.1.0/24"}, DrainTimeoutSeconds: new(int32(60)),
				TCPTimeoutSeconds: new(int32(1)), TCPFinTimeoutSeconds: new(int32(2)), UDPTimeoutSeconds: new(int32(3)),
			}},
			want: func(p *settings.Plan) {
				p.Mode, p.DrainTimeout = v1alpha1.ModeIPVS, time.Minute
				p.First = virtualserver.Writes(release, true)
				p.Kernel = append(virtualserver.Writes(release, true), p.Kernel[:5]...)
				p.IPVS = ipvs.Settings{
					MarkBit: 14, Pods: xtables.Pods{CIDRs: testWorld().Node.PodCIDRs}, ServiceCIDRs: testWorld().ServiceCIDRs,
					NodeAddresses: testWorld().Node.Addresses, Scheduler: "lc", ExcludeCIDRs: prefixes("10.96.1.0/24"), DrainTimeout: time.Minute,
					TCPTimeout: time.Second, TCPFinTimeout: 2 * time.Second, UDPTimeout: 3 * time.Second,
				}
			},
		},
		"masquerade everything, by another bit": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{Policy: v1alpha1.MasqueradeAll, Bit: new(int32(0))}},
			want: func(p *settings.Plan) {
				p.IPTables.MasqueradeAll, p.IPTables.MarkBit, p.Node.MasqueradeAll = true, 0, true
			},
		},
		"a Node without pod CIDRs": {
			world: func(w *catalog.World) { w.Node.PodCIDRs = nil },
			want:  func(p *settings.Plan) { p.IPTables.PodCIDRs, p.Node.DetectsPods = nil, [2]bool{} },
		},
		"pods by a cluster CIDR of one family": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{LocalTraffic: v1alpha1.LocalTraffic{
				Detect: v1alpha1.DetectClusterCIDR, ClusterCIDRs: []string{"10.244.3.4/16"}}}},
			want: func(p *settings.Plan) {
				p.IPTables.PodCIDRs, p.Node.DetectsPods = prefixes("10.244.0.0/16"), [2]bool{true, false}
			},
		},
		"pods by the names of interfaces": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{LocalTraffic: v1alpha1.LocalTraffic{
				Detect: v1alpha1.DetectInterfaceNamePrefix, Interface: "veth"}}},
			want: func(p *settings.Plan) { p.IPTables.PodCIDRs, p.IPTables.PodInterface = nil, "veth+" },
		},
		"pods by a bridge": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{LocalTraffic: v1alpha1.LocalTraffic{
				Detect: v1alpha1.DetectBridgeInterface, Interface: "cni0"}}},
			want: func(p *settings.Plan) { p.IPTables.PodCIDRs, p.IPTables.PodInterface = nil, "cni0" },
		},
		"node ports at the primary addresses, not at localhost": {
			settings: v1alpha1.ProxySettings{NodePorts: v1alpha1.NodePorts{
				Addresses: []string{v1alpha1.NodePortAddressPrimary}, Localhost: v1alpha1.SwitchDisabled}},
			want: func(p *settings.Plan) {
				p.IPTables.NodePortAddresses, p.IPTables.LocalhostNodePorts = prefixes("192.168.0.2/32", "2001:db8::1/128"), false
				p.Kernel = p.Kernel[:5]
			},
		},
		"packets outside the window are accepted": {
			settings: v1alpha1.ProxySettings{Conntrack: v1alpha1.Conntrack{TCPBeLiberal: v1alpha1.SwitchEnabled}},
			want:     func(p *settings.Plan) { p.IPTables.KeepInvalid, p.Kernel[4].Value = true, 1 },
		},
		"conntrack left as the node has it, but for UDP": {
			settings: v1alpha1.ProxySettings{Conntrack: v1alpha1.Conntrack{
				MaxPerCore: new(int32(0)), TCPEstablishedTimeoutSeconds: new(int32(0)), TCPCloseWaitTimeoutSeconds: new(int32(0)),
				UDPTimeoutSeconds: new(int32(10)), UDPStreamTimeoutSeconds: new(int32(20))}},
			want: func(p *settings.Plan) {
				p.Kernel = append([]conntrack.Write{
					{Path: "proc/sys/net/netfilter/nf_conntrack_udp_timeout", Value: 10},
					{Path: "proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", Value: 20},
				}, p.Kernel[4:]...)
			},
		},
		"a pace": {
			settings: v1alpha1.ProxySettings{Sync: v1alpha1.Sync{MinIntervalMilliseconds: new(int32(250)), FullIntervalSeconds: new(int32(60))}},
			want: func(p *settings.Plan) {
				p.Pace = settings.Pace{MinInterval: new(250 * time.Millisecond), FullInterval: time.Minute}
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			world, want := testWorld(), defaults()
			if test.world != nil {
				test.world(world)
			}
			test.want(&want)
			want.NodePortAddresses = want.IPTables.NodePortAddresses
			got, err := settings.Resolve(&test.settings, world, settings.Machine{Cores: 4, Release: release})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, lookInside(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestResolveNamesTheField(t *testing.T) {
	tests := map[string]struct {
		settings v1alpha1.ProxySettings
		world    func(*catalog.World)
		field    string
	}{
		"bit": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{Bit: new(int32(32))}},
			field:    "spec.masquerade.bit",
		},
		"cluster CIDR": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{LocalTraffic: v1alpha1.LocalTraffic{
				Detect: v1alpha1.DetectClusterCIDR, ClusterCIDRs: []string{"10.0.0.0/8", "10.0.0.300/8"}}}},
			field: "spec.masquerade.localTraffic.clusterCIDRs[1]",
		},
		"bridge without a name": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{LocalTraffic: v1alpha1.LocalTraffic{Detect: v1alpha1.DetectBridgeInterface}}},
			field:    "spec.masquerade.localTraffic.interface",
		},
		"a way of detection from the future": {
			settings: v1alpha1.ProxySettings{Masquerade: v1alpha1.Masquerade{LocalTraffic: v1alpha1.LocalTraffic{Detect: "Magic"}}},
			field:    "spec.masquerade.localTraffic.detect",
		},
		"node port address": {
			settings: v1alpha1.ProxySettings{NodePorts: v1alpha1.NodePorts{Addresses: []string{"192.168.0.0"}}},
			field:    "spec.nodePorts.addresses[0]",
		},
		"primary address of a Node that has none": {
			settings: v1alpha1.ProxySettings{NodePorts: v1alpha1.NodePorts{Addresses: []string{"Primary"}}},
			world:    func(w *catalog.World) { w.Node.Addresses = nil },
			field:    "spec.nodePorts.addresses",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			world := testWorld()
			if test.world != nil {
				test.world(world)
			}
			_, err := settings.Resolve(&test.settings, world, settings.Machine{Cores: 4, Release: release})
			if err == nil || !strings.HasPrefix(err.Error(), test.field+": ") {
				t.Errorf("got %v, want an error about %s", err, test.field)
			}
		})
	}
}

func TestPause(t *testing.T) {
	const shortestPause, longestPause = 100 * time.Millisecond, time.Second
	tests := map[string]struct {
		pace settings.Pace
		took time.Duration
		want time.Duration
	}{
		"a fast write is followed by a short pause":    {took: time.Millisecond, want: shortestPause},
		"a slow one by one as much longer":             {took: 40 * time.Millisecond, want: 160 * time.Millisecond},
		"but never by more than a second":              {took: 3 * time.Second, want: longestPause},
		"a given interval holds, however long it took": {pace: settings.Pace{MinInterval: new(2 * time.Second)}, took: time.Minute, want: 2 * time.Second},
		"also when it asks for no pause at all":        {pace: settings.Pace{MinInterval: new(time.Duration(0))}, took: time.Minute, want: 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := test.pace.Pause(test.took); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
