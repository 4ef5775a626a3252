package laststate

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

// The file of the table is one line that names the form and its version, the content, and the SHA-256 of both. The content
// is a stream of values as encoding/gob writes them, because as JSON it would be five times as large and take five times as
// long: a tableHead, and then one catalog.Entry after the other. tableVersion has to change with any of their types.
const (
	tableForm    = "service-proxy table"
	tableVersion = 1
)

// tableHead is what comes before the entries.
type tableHead struct {
	Taken    time.Time
	NodeName string
	World    catalog.World
	// Count is how many entries follow.
	Count int
}

func (f Folder) tablePath() string { return f.path("table") }

// SaveTable replaces the table. It goes to the disk entry by entry, so that little memory is needed beside the snapshot.
func (f Folder) SaveTable(s *catalog.Snapshot) error {
	if err := f.saveTable(s); err != nil {
		return fmt.Errorf("writing the last Services and endpoints: %w; %s has to be a folder that can be written to and outlives "+
			"the agent, or --state-dir has to name another; until then a node that boots without the API server has no Services", err, string(f))
	}
	return nil
}

func (f Folder) saveTable(s *catalog.Snapshot) error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return err
	}
	file, err := renameio.NewPendingFile(f.tablePath(), renameio.WithTempDir(string(f)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { _ = file.Cleanup() }() // of what did not get its name
	sum := sha256.New()
	out := bufio.NewWriterSize(file, 1<<16)
	if err := encodeTable(io.MultiWriter(out, sum), s); err != nil {
		return err
	}
	if _, err := out.Write(sum.Sum(nil)); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.CloseAtomicallyReplace()
}

func encodeTable(w io.Writer, s *catalog.Snapshot) error {
	if _, err := fmt.Fprintf(w, "%s %d\n", tableForm, tableVersion); err != nil {
		return err
	}
	encoder := gob.NewEncoder(w)
	if err := encoder.Encode(tableHead{s.Taken, s.NodeName, s.World, len(s.Entries)}); err != nil {
		return err
	}
	for i := range s.Entries {
		if err := encoder.Encode(&s.Entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// Table reads the table. It returns nil when there is none, and an error when there is one but it cannot be believed.
func (f Folder) Table() (*catalog.Snapshot, error) {
	file, err := os.Open(f.tablePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s *catalog.Snapshot
	if err == nil {
		defer func() { _ = file.Close() }() // it was only read
		s, err = readTable(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the last Services and endpoints: %s is ignored: %w", f.tablePath(), err)
	}
	return s, nil
}

// errDamaged says that a file is not what was written once.
var errDamaged = errors.New("it is damaged: its checksum is not that of its content")

// readTable reads everything twice: nothing is decoded that is not known to be whole.
func readTable(file *os.File) (*catalog.Snapshot, error) {
	first, err := bufio.NewReader(file).ReadSlice('\n')
	var version int
	if _, wrong := fmt.Sscanf(string(first), tableForm+" %d\n", &version); wrong != nil || err != nil {
		return nil, fmt.Errorf("it is damaged: it does not begin with %q and a version", tableForm)
	}
	if version != tableVersion {
		return nil, fmt.Errorf("it has version %d, and this agent knows version %d", version, tableVersion)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size() - sha256.Size
	if size < int64(len(first)) {
		return nil, errDamaged
	}
	sum, want := sha256.New(), make([]byte, sha256.Size)
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, size)); err != nil {
		return nil, err
	}
	if _, err := file.ReadAt(want, size); err != nil {
		return nil, err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return nil, errDamaged
	}
	return decodeTable(bufio.NewReaderSize(io.NewSectionReader(file, int64(len(first)), size-int64(len(first))), 1<<16))
}

func decodeTable(r io.Reader) (*catalog.Snapshot, error) {
	decoder := gob.NewDecoder(r)
	var head tableHead
	if err := decoder.Decode(&head); err != nil {
		return nil, fmt.Errorf("decoding its beginning: %w", err)
	}
	s := catalog.Snapshot{Taken: head.Taken, NodeName: head.NodeName, World: head.World}
	for range head.Count {
		var e catalog.Entry
		if err := decoder.Decode(&e); err != nil {
			return nil, fmt.Errorf("decoding a Service: %w", err)
		}
		s.Entries = append(s.Entries, e)
	}
	return &s, nil
}

// RemoveTable removes the table. It is no error if there is none.
func (f Folder) RemoveTable() error {
	if err := os.Remove(f.tablePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the last Services and endpoints: %w", err)
	}
	return nil
}

// Remove removes everything that an agent ever kept here. It is no error if there is nothing.
func (f Folder) Remove() error { return errors.Join(f.RemoveSettings(), f.RemoveTable()) }
