package laststate_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
)

// FuzzSettings reads files of settings that no agent wrote, once as they are and once with a checksum that is right: what
// cannot be believed is an error, and never a panic.
func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"good":{"generation":1,"revision":"default-1","settings":{"mode":"iptables"}}}`))
	f.Add([]byte(`{"failed":{"generation":-1,"reason":"x","settings":{"mode":null}}}`))
	f.Add([]byte(`{"version":1,"sha256":"","content":{}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, content []byte) {
		folder := t.TempDir()
		path := filepath.Join(folder, "settings.json")
		read := func(text []byte) {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := laststate.Folder(folder).Settings()
			if (s == nil) != (err != nil) {
				t.Errorf("settings %+v, error %v", s, err)
			}
		}
		read(content)
		if json.Valid(content) {
			sum := sha256.Sum256(content)
			read(fmt.Appendf(nil, `{"version":1,"sha256":%q,"content":%s}`, hex.EncodeToString(sum[:]), content))
		}
	})
}

// FuzzTable does the same with files of the last Services.
func FuzzTable(f *testing.F) {
	folder := f.TempDir()
	if err := laststate.Folder(folder).SaveTable(complete()); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(folder, "table"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:len(whole)-sha256.Size])
	f.Add([]byte("service-proxy table 1\n"))
	f.Add([]byte("service-proxy table 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		folder := t.TempDir()
		sum := sha256.Sum256(content)
		for _, text := range [][]byte{content, append(slices.Clip(content), sum[:]...)} {
			if err := os.WriteFile(filepath.Join(folder, "table"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := laststate.Folder(folder).Table()
			if (s == nil) != (err != nil) {
				t.Errorf("a table %+v, error %v", s, err)
			}
		}
	})
}
