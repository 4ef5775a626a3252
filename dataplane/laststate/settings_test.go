package laststate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
)

func settings(revision string) *laststate.Settings {
	limit := int32(1000)
	return &laststate.Settings{
		Good: &laststate.Assigned{
			UID: "11", Generation: 4, Revision: revision,
			Settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPVS, Conntrack: v1alpha1.Conntrack{Min: &limit}},
		},
		Failed: &laststate.Failed{
			Assigned: laststate.Assigned{UID: "11", Generation: 5, Revision: "bad", Settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}},
			Reason:   v1alpha1.ReasonProbeFailed, Message: "<API server> does not answer & more",
		},
	}
}

func TestWhatIsSavedIsReadAgain(t *testing.T) {
	folder := laststate.Folder(filepath.Join(t.TempDir(), "not", "there", "yet"))
	if got, err := folder.Settings(); got != nil || err != nil {
		t.Fatalf("before anything is saved: got %v, %v", got, err)
	}
	for _, revision := range []string{"first", "second"} {
		want := settings(revision)
		if err := folder.SaveSettings(want); err != nil {
			t.Fatal(err)
		}
		got, err := folder.Settings()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	for range 2 {
		if err := folder.RemoveSettings(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := folder.Settings(); got != nil || err != nil {
		t.Errorf("after everything is removed: got %v, %v", got, err)
	}
}

func TestNothingIsLeftBeside(t *testing.T) {
	folder := t.TempDir()
	for range 3 {
		if err := laststate.Folder(folder).SaveSettings(settings("one")); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("got %v, want one file", entries)
	}
}

func TestADamagedFileIsReportedAndReplaced(t *testing.T) {
	tests := map[string]struct {
		damage func(text string) string
		says   string
	}{
		"empty":              {func(string) string { return "" }, "damaged"},
		"cut off":            {func(text string) string { return text[:len(text)/2] }, "damaged"},
		"one letter changed": {func(text string) string { return strings.Replace(text, "IPVS", "IPVZ", 1) }, "checksum"},
		"no JSON":            {func(string) string { return "\x00\x01" }, "damaged"},
		"other JSON":         {func(string) string { return "[]" }, "damaged"},
		"no content":         {func(string) string { return `{"version":1}` }, "checksum"},
		"of a newer agent":   {func(text string) string { return strings.Replace(text, `"version":1`, `"version":2`, 1) }, "version 2"},
		"content of other type": {func(string) string {
			// The checksum is right: echo -n '[]' | sha256sum
			return `{"version":1,"sha256":"4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945","content":[]}`
		}, "ignored"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder := laststate.Folder(dir)
			if err := folder.SaveSettings(settings("one")); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "settings.json")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(test.damage(string(text))), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := folder.Settings()
			if got != nil || err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v and error %v, want an error that names the file and says %q", got, err, test.says)
			}
			if err := folder.SaveSettings(settings("two")); err != nil {
				t.Fatal(err)
			}
			if got, err = folder.Settings(); err != nil || got.Good.Revision != "two" {
				t.Errorf("after it was replaced: got %v, %v", got, err)
			}
		})
	}
}

func TestAFolderThatCannotBeWrittenToIsAnErrorThatSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, folder := range map[string]string{"a file": file, "below a file": filepath.Join(file, "state"), "read-only": "/proc/state"} {
		t.Run(name, func(t *testing.T) {
			err := laststate.Folder(folder).SaveSettings(settings("one"))
			if err == nil || !strings.Contains(err.Error(), "--state-dir") || !strings.Contains(err.Error(), folder) {
				t.Errorf("got %v", err)
			}
		})
	}
}
