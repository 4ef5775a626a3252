package conntrack

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Settings are the limits and timeouts of connection tracking. What is zero or nil is left as the node has it.
type Settings struct {
	// MaxPerCore is how many connections to track for each CPU, up to a million in all. 0 leaves the limit alone, and
	// Min then means nothing.
	MaxPerCore int
	// Min is the least number of connections to track whatever the number of CPUs. It may be more than a million.
	Min int

	// TCPEstablishedTimeout and TCPCloseWaitTimeout are how long an idle connection is remembered in these states.
	TCPEstablishedTimeout, TCPCloseWaitTimeout time.Duration
	// UDPTimeout is how long a flow is remembered that went one way only, UDPStreamTimeout one that was answered.
	UDPTimeout, UDPStreamTimeout time.Duration

	// TCPBeLiberal says whether segments outside the window still belong to their connection.
	TCPBeLiberal *bool
}

// maxScaled bounds what MaxPerCore comes to on a machine of many cores: 2^20 connections take about 320 MB.
const maxScaled = 1 << 20

// The parameters, below the root of the file system. See Documentation/networking/nf_conntrack-sysctl.rst of Linux.
const (
	sysctls = "proc/sys/net/netfilter/nf_conntrack_"
	buckets = sysctls + "buckets"
)

// Write is a value for a parameter of the kernel.
type Write struct {
	// Path is the file of the parameter, relative to the root of the file system.
	Path  string
	Value int
	// AtLeast leaves a parameter alone that is greater already.
	AtLeast bool
	// Machine says that the parameter is one of the whole machine. Only its first network namespace may write it, and a
	// container seldom, so that it is no error where it cannot be written.
	Machine bool
}

// Writes are the values that the settings ask for on a machine with so many CPUs.
func (s *Settings) Writes(cores int) []Write {
	var writes []Write
	if s.MaxPerCore > 0 {
		limit := max(min(s.MaxPerCore*cores, maxScaled), s.Min)
		writes = append(writes,
			Write{Path: sysctls + "max", Value: limit, AtLeast: true, Machine: true},
			// Up to four connections to a bucket keeps looking one up cheap.
			Write{Path: buckets, Value: limit / 4, AtLeast: true, Machine: true})
	}
	timeout := func(name string, d time.Duration) {
		if d > 0 {
			seconds := int((d + time.Second - 1) / time.Second)
			writes = append(writes, Write{Path: sysctls + name, Value: seconds})
		}
	}
	timeout("tcp_timeout_established", s.TCPEstablishedTimeout)
	timeout("tcp_timeout_close_wait", s.TCPCloseWaitTimeout)
	timeout("udp_timeout", s.UDPTimeout)
	timeout("udp_timeout_stream", s.UDPStreamTimeout)
	if s.TCPBeLiberal != nil {
		value := 0
		if *s.TCPBeLiberal {
			value = 1
		}
		writes = append(writes, Write{Path: sysctls + "tcp_be_liberal", Value: value})
	}
	return writes
}

// Apply gives parameters below a root, / on a node, their values where they differ. What cannot be written is named with
// its path and value: in refused where it is of the whole machine and not ours to write, which only means that the
// machine keeps its limit, and in err otherwise. All of them are tried.
func Apply(root string, writes []Write) (refused []error, err error) {
	for _, w := range writes {
		switch failed := w.apply(root); {
		case failed == nil:
		case w.Machine && notOurs(failed):
			refused = append(refused, failed)
		default:
			err = errors.Join(err, failed)
		}
	}
	return refused, err
}

// Compare names the parameters of the network namespace that do not have their values. Those of the machine are left to it.
func Compare(root string, writes []Write) []string {
	var different []string
	for _, w := range writes {
		if current, right, err := w.current(root); !w.Machine && err == nil && !right {
			different = append(different, fmt.Sprintf("parameter /%s, which is %d instead of %d", w.Path, current, w.Value))
		}
	}
	return different
}

// current is the value that a parameter has, and whether that is right.
func (w *Write) current(root string) (value int, right bool, err error) {
	path := filepath.Join(root, w.Path)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false, fmt.Errorf("reading what is to become %d: %w", w.Value, err)
	}
	current, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, false, fmt.Errorf("reading %s, which is to become %d: %w", path, w.Value, err)
	}
	order := cmp.Compare(current, w.Value)
	return current, order == 0 || order > 0 && w.AtLeast, nil
}

func (w *Write) apply(root string) error {
	path := filepath.Join(root, w.Path)
	current, right, err := w.current(root)
	if err != nil || right {
		return err
	}
	if err := os.WriteFile(path, strconv.AppendInt(nil, int64(w.Value), 10), 0); err != nil {
		return fmt.Errorf("changing %d to %d: %w", current, w.Value, err)
	}
	return nil
}

// notOurs says whether an error is about rights, a file system that is mounted read-only, a parameter that is not shown
// here, or, of the number of buckets, a network namespace that is not the machine's first.
func notOurs(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) ||
		errors.Is(err, unix.EOPNOTSUPP)
}
