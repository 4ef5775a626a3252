package laststate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Folder is where the files are. It need not exist.
type Folder string

func (f Folder) path(name string) string { return filepath.Join(string(f), name) }

// file is one file and the version of its content that this program writes and knows.
type file struct {
	path    string
	version int
}

// envelope is the form of every file.
type envelope struct {
	Version int `json:"version"`
	// SHA256 is the checksum of Content as it stands, in hexadecimal.
	SHA256  string          `json:"sha256"`
	Content json.RawMessage `json:"content"`
}

// read decodes the content and says whether there is a file at all.
func (f file) read(content any) (found bool, err error) {
	text, err := os.ReadFile(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading what was good last: %w", err)
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return true, fmt.Errorf("reading what was good last: %s is damaged and ignored: %w", f.path, err)
	}
	if e.Version != f.version {
		return true, fmt.Errorf("reading what was good last: %s has version %d and is ignored; this agent knows version %d",
			f.path, e.Version, f.version)
	}
	if sum := checksum(e.Content); sum != e.SHA256 {
		return true, fmt.Errorf("reading what was good last: %s is damaged and ignored: its checksum is %s, and it says %s",
			f.path, sum, e.SHA256)
	}
	if err := json.Unmarshal(e.Content, content); err != nil {
		return true, fmt.Errorf("reading what was good last: %s is ignored: %w", f.path, err)
	}
	return true, nil
}

// write replaces the file.
func (f file) write(content any) error {
	text, err := f.encode(content)
	if err != nil {
		return fmt.Errorf("encoding what was good last: %w", err)
	}
	err = os.MkdirAll(filepath.Dir(f.path), 0o700)
	if err == nil {
		err = renameio.WriteFile(f.path, text, 0o600, renameio.WithTempDir(filepath.Dir(f.path)))
	}
	if err != nil {
		return fmt.Errorf("writing what was good last: %w; %s has to be a folder that can be written to and outlives the agent, "+
			"or --state-dir has to name another; until then a restart forgets which settings were good", err, filepath.Dir(f.path))
	}
	return nil
}

func (f file) encode(content any) ([]byte, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{Version: f.version, SHA256: checksum(text), Content: text})
}

func (f file) remove() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what was good last: %w", err)
	}
	return nil
}

func checksum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
