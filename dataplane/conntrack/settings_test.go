package conntrack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
)

const (
	limitPath   = "proc/sys/net/netfilter/nf_conntrack_max"
	bucketsPath = "proc/sys/net/netfilter/nf_conntrack_buckets"
)

func TestWrites(t *testing.T) {
	limit := func(n int) []conntrack.Write {
		return []conntrack.Write{
			{Path: limitPath, Value: n, AtLeast: true, Machine: true},
			{Path: bucketsPath, Value: n / 4, AtLeast: true, Machine: true},
		}
	}
	sysctl := func(name string, value int) conntrack.Write {
		return conntrack.Write{Path: "proc/sys/net/netfilter/nf_conntrack_" + name, Value: value}
	}

	for name, test := range map[string]struct {
		settings conntrack.Settings
		cores    int
		want     []conntrack.Write
	}{
		"nothing set":               {cores: 8},
		"scaled by cores":           {conntrack.Settings{MaxPerCore: 32768, Min: 131072}, 8, limit(262144)},
		"few cores":                 {conntrack.Settings{MaxPerCore: 32768, Min: 131072}, 2, limit(131072)},
		"many cores":                {conntrack.Settings{MaxPerCore: 32768, Min: 131072}, 128, limit(1048576)},
		"a minimum above a million": {conntrack.Settings{MaxPerCore: 32768, Min: 2000000}, 128, limit(2000000)},
		"a minimum alone":           {conntrack.Settings{Min: 131072}, 8, nil},
		"timeouts": {conntrack.Settings{
			TCPEstablishedTimeout: 24 * time.Hour, TCPCloseWaitTimeout: time.Hour,
			UDPTimeout: 1500 * time.Millisecond, UDPStreamTimeout: 3 * time.Minute,
		}, 8, []conntrack.Write{
			sysctl("tcp_timeout_established", 86400), sysctl("tcp_timeout_close_wait", 3600),
			sysctl("udp_timeout", 2), sysctl("udp_timeout_stream", 180),
		}},
		"liberal":     {conntrack.Settings{TCPBeLiberal: new(true)}, 8, []conntrack.Write{sysctl("tcp_be_liberal", 1)}},
		"not liberal": {conntrack.Settings{TCPBeLiberal: new(false)}, 8, []conntrack.Write{sysctl("tcp_be_liberal", 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.settings.Writes(test.cores)); diff != "" {
				t.Errorf("Writes() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestApply(t *testing.T) {
	for name, test := range map[string]struct {
		current string
		write   conntrack.Write
		want    string
		failure string
	}{
		"differs":                      {"30\n", conntrack.Write{Value: 60}, "60", ""},
		"is so already":                {"60\n", conntrack.Write{Value: 60}, "60\n", ""},
		"is lowered":                   {"90\n", conntrack.Write{Value: 60}, "60", ""},
		"is raised":                    {"30\n", conntrack.Write{Value: 60, AtLeast: true}, "60", ""},
		"is more already":              {"90\n", conntrack.Write{Value: 60, AtLeast: true}, "90\n", ""},
		"cannot be understood":         {"many\n", conntrack.Write{Value: 60}, "many\n", "60"},
		"cannot be understood, shared": {"many\n", conntrack.Write{Value: 60, Machine: true}, "many\n", "60"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, "parameter")
			if err := os.WriteFile(file, []byte(test.current), 0o600); err != nil {
				t.Fatal(err)
			}
			test.write.Path = "parameter"
			refused, err := conntrack.Apply(root, []conntrack.Write{test.write})
			if len(refused) != 0 {
				t.Errorf("Apply() refused %v", refused)
			}
			if (err != nil) != (test.failure != "") || err != nil && !strings.Contains(err.Error(), test.failure) {
				t.Errorf("Apply() = %v, want an error about %q", err, test.failure)
			}
			if err != nil && !strings.Contains(err.Error(), file) {
				t.Errorf("Apply() = %v, want it to name %s", err, file)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != test.want {
				t.Errorf("the parameter is %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// One parameter that cannot be written does not keep the others from being written.
func TestApplyTriesAll(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "there")
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused, err := conntrack.Apply(root, []conntrack.Write{
		{Path: "machine/missing", Value: 4, Machine: true},
		{Path: "missing", Value: 3},
		{Path: "there", Value: 2},
	})
	if len(refused) != 1 || !strings.Contains(refused[0].Error(), filepath.Join(root, "machine/missing")) {
		t.Errorf("Apply() refused %v, want machine/missing", refused)
	}
	if err == nil || !strings.Contains(err.Error(), filepath.Join(root, "missing")) || !strings.Contains(err.Error(), "3") {
		t.Errorf("Apply() = %v, want an error about missing and 3", err)
	}
	if got, _ := os.ReadFile(file); string(got) != "2" {
		t.Errorf("the last parameter is %q, want 2", got)
	}
}
