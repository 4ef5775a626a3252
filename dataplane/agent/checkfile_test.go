package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileIsRefusedByTheNameOfTheFieldThatCouldDoHarm(t *testing.T) {
	for name, test := range map[string]struct{ spec, field string }{
		"another rule in the name of an interface": {
			`masquerade: {localTraffic: {detect: BridgeInterface, interface: "x\n-A INPUT -j DROP"}}`, "spec.masquerade.localTraffic.interface"},
		"another match in it": {
			`masquerade: {localTraffic: {detect: InterfaceNamePrefix, interface: "x -j ACCEPT"}}`, "spec.masquerade.localTraffic.interface"},
		"comparing without a pause": {`sync: {fullIntervalSeconds: 0}`, "spec.sync.fullIntervalSeconds"},
		"writing before it was due": {`sync: {minIntervalMilliseconds: -1}`, "spec.sync.minIntervalMilliseconds"},
		"an unknown field":          {`sycn: {}`, "sycn"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			text := "apiVersion: serviceproxy.io/v1alpha1\nkind: ServiceProxyConfig\nmetadata: {name: default}\nspec:\n  mode: iptables\n  " + test.spec
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadConfig(path); err == nil || !strings.Contains(err.Error(), test.field) {
				t.Errorf("error %v, want one that names %s", err, test.field)
			}
		})
	}
}
