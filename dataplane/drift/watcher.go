package drift

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

const (
	// receiveSize holds the largest datagram of notices: nf_tables gathers those of a transaction up to a page or so.
	receiveSize = 64 << 10
	// bufferSize is how much the kernel may have to say before it is listened to. It counts what a notice takes in the
	// kernel, of which this is room for the notices of thousands of rules; they take memory only while they wait.
	bufferSize = 8 << 20
	// keptSuspects bounds what is told of one burst.
	keptSuspects = 20
)

// Watcher listens. Its methods may be called from any goroutine.
type Watcher struct {
	// prefix starts the names of the chains that are ours, and of no others.
	prefix  string
	sources []*source
	changed chan struct{}

	mu       sync.Mutex
	buffer   []byte
	suspects []Suspect
	own      bool
	noted    []transaction // while we write
}

// source is a socket on which the kernel gives notice.
type source struct {
	file *os.File
	take func(w *Watcher, datagram []byte)
	// open is the transaction whose end was not heard of yet.
	open transaction
}

// transaction is what somebody did at once.
type transaction struct {
	family  uint8
	writer  uint32 // port of the netlink socket
	program string
	// touched is what of ours it was about; nothing when it was about others.
	touched []Suspect
}

// Suspect is something of ours that somebody else may have changed.
type Suspect struct {
	// Place is the chain; its name is empty where it is more than a chain, or something else.
	xtables.Place
	// What is the same in words, and Program what the one who did it calls itself, if that is known.
	What, Program string
}

// String says what, and by whom.
func (s Suspect) String() string {
	if s.Program == "" {
		return s.What
	}
	return s.What + " by " + s.Program
}

// more stands for all that is not known.
func more() Suspect { return Suspect{What: "more than the kernel could tell, or than is kept"} }

// Watch listens until the context ends. Prefix starts the names of the chains that are ours.
func Watch(ctx context.Context, prefix string) (*Watcher, error) {
	w := &Watcher{prefix: prefix, changed: make(chan struct{}, 1), buffer: make([]byte, receiveSize)}
	rules, err := listen(unix.NETLINK_NETFILTER, 1<<(unix.NFNLGRP_NFTABLES-1))
	if err != nil {
		return nil, fmt.Errorf("listening to changes of nf_tables: %w", err)
	}
	routes, err := listen(unix.NETLINK_ROUTE, unix.RTMGRP_IPV4_ROUTE|unix.RTMGRP_IPV6_ROUTE)
	if err != nil {
		_ = rules.Close() // the first error counts
		return nil, fmt.Errorf("listening to changes of routes: %w", err)
	}
	ruleSource := &source{file: rules}
	ruleSource.take = ruleSource.rules
	w.sources = []*source{ruleSource, {file: routes, take: takeRoutes}}
	for _, s := range w.sources {
		context.AfterFunc(ctx, func() { _ = s.file.Close() }) // it ends what listens
		go w.follow(s)
	}
	return w, nil
}

func listen(protocol int, groups uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	// What does not fit is noticed, and one who may not make the buffer larger has a smaller one.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferSize)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd) // the first error counts
		return nil, fmt.Errorf("binding a netlink socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// Changed has a value when somebody else may have changed what is ours, once for any number of changes.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Take returns what may have been changed since the last Take, in the order in which it was first heard of.
func (w *Watcher) Take() []Suspect {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain()
	taken := w.suspects
	w.suspects = nil
	return taken
}

// Own has something written to the kernel that is not news. The kernel gives notice before a write returns, so that what was
// heard from the beginning to the end is about it. Rules of a family are written by one program or socket at a time: where
// two have written, the other was somebody else.
func (w *Watcher) Own(write func()) {
	w.mu.Lock()
	w.drain()
	w.own, w.noted = true, nil
	w.mu.Unlock()
	write()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain()
	w.own = false
	writers := map[uint8][]uint32{}
	for _, t := range w.noted {
		if !slices.Contains(writers[t.family], t.writer) {
			writers[t.family] = append(writers[t.family], t.writer)
		}
	}
	for _, t := range w.noted {
		if len(writers[t.family]) > 1 {
			w.suspect(t)
		}
	}
	w.noted = nil
}

// follow reads what the kernel has to say whenever it has something to say.
func (w *Watcher) follow(s *source) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Read(func(fd uintptr) bool { // ends when it is closed
		w.mu.Lock()
		defer w.mu.Unlock()
		w.read(s, int(fd))
		return false
	})
}

// drain reads what has been said up to now.
func (w *Watcher) drain() {
	for _, s := range w.sources {
		if raw, err := s.file.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { w.read(s, int(fd)) }) // fails when it is closed
		}
	}
}

// read takes datagrams until there are no more.
func (w *Watcher) read(s *source, fd int) {
	for {
		n, _, err := unix.Recvfrom(fd, w.buffer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			// While we write much, this is about what we write, of which nothing is lost: it is known.
			if !w.own {
				w.suspect(transaction{touched: []Suspect{more()}})
			}
		case err != nil:
			return
		default:
			s.take(w, w.buffer[:n])
		}
	}
}

// note adds to suspects what is not among them. Where there are too many, it is that there are more.
func note(suspects []Suspect, s Suspect) []Suspect {
	switch {
	case slices.Contains(suspects, s) || len(suspects) > keptSuspects:
		return suspects
	case len(suspects) == keptSuspects:
		return append(suspects, more())
	}
	return append(suspects, s)
}

// heard takes note of a transaction.
func (w *Watcher) heard(t transaction) {
	switch {
	case len(t.touched) == 0:
	case w.own:
		w.noted = append(w.noted, t)
	default:
		w.suspect(t)
	}
}

func (w *Watcher) suspect(t transaction) {
	for _, s := range t.touched {
		s.Program = t.program
		w.suspects = note(w.suspects, s)
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
