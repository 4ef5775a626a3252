package agent

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// FuzzConfig reads files for --config that nobody has checked: whatever is in one, it is refused in words or comes to
// settings whose rules are one line each.
func FuzzConfig(f *testing.F) {
	const head = "apiVersion: serviceproxy.io/v1alpha1\nkind: ServiceProxyConfig\nmetadata: {name: default}\nspec:\n  nodeSelector: {}\n"
	f.Add([]byte(head + "  mode: iptables\n"))
	f.Add([]byte(head + "  mode: IPVS\n  ipvs: {scheduler: \"rr\\n\", excludeCIDRs: [10.0.0.0/99], drainTimeoutSeconds: -1}\n"))
	f.Add([]byte(head + "  mode: iptables\n  masquerade: {bit: 99}\n"))
	f.Add([]byte(head + "  mode: iptables\n  masquerade: {localTraffic: {detect: BridgeInterface, interface: \"x\\n-A INPUT -j DROP\"}}\n"))
	f.Add([]byte(head + "  mode: iptables\n  masquerade: {localTraffic: {detect: InterfaceNamePrefix, interface: \"x -j ACCEPT\"}}\n"))
	f.Add([]byte(head + "  mode: iptables\n  nodePorts: {addresses: [Primary]}\n  sync: {fullIntervalSeconds: -1, minIntervalMilliseconds: -1}\n"))
	f.Add([]byte(head + "  mode: iptables\n  conntrack: {maxPerCore: -1}\n  sycn: {}\n"))
	world := &catalog.World{
		Node:         catalog.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.168.0.1")}},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")},
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := ReadConfig(path)
		if err != nil {
			return
		}
		if again, err := yaml.Marshal(a.Settings); err != nil {
			t.Errorf("%s cannot be kept: %v", again, err)
		}
		p, err := settings.Resolve(&a.Settings, world, settings.Machine{Cores: 4, Release: "6.1.0"})
		if err != nil {
			return
		}
		if p.Pace.FullInterval <= 0 || p.Pace.Pause(0) < 0 || p.DrainTimeout < 0 {
			t.Errorf("the times are %+v and %s", p.Pace, p.DrainTimeout)
		}
		for _, rule := range (xtables.Pods{Interface: p.IPTables.PodInterface}).Matches(false) {
			if len(strings.Fields(rule)) != 2 || strings.ContainsAny(rule, "\n\r\x00\"'\\") {
				t.Errorf("the rules say %q", rule)
			}
		}
	})
}
