package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace without a name or a mount (network_namespaces(7)). It ends when the last descriptor,
// process and socket that refers to it is gone, so that nothing survives the process that made it.
type namespace struct {
	file *os.File
}

// newNamespace makes a network namespace with nothing but the loopback interface, up, and the given sysctls below
// /proc/sys/net.
func newNamespace(sysctls map[string]string) (*namespace, error) {
	var n *namespace
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace (it needs root): %w", err)
		}
		var err error
		n, err = namespaceOfThread()
		return err
	})
	if err != nil {
		return nil, err
	}
	err = n.configure(func(links *netlink.Handle) error {
		if err := writeSysctls(sysctls); err != nil {
			return err
		}
		loopback, err := links.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("finding the loopback interface: %w", err)
		}
		return links.LinkSetUp(loopback)
	})
	if err != nil {
		n.close()
		return nil, fmt.Errorf("configuring a new network namespace: %w", err)
	}
	return n, nil
}

// namespaceOfThread returns the namespace of the calling thread, which must be locked.
func namespaceOfThread() (*namespace, error) {
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("opening the network namespace of a thread: %w", err)
	}
	return &namespace{file: os.NewFile(uintptr(handle), "network namespace")}, nil
}

// close lets go of the namespace. Sockets and processes in it keep it alive until they are gone too.
func (n *namespace) close() { _ = n.file.Close() }

// do runs f on a thread that is in the namespace. Sockets and processes that f makes are in it for good, goroutines that
// it starts are not.
func (n *namespace) do(f func() error) error {
	return onOwnThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// configure runs f in the namespace with a handle on its links, addresses, routes and rules.
func (n *namespace) configure(f func(*netlink.Handle) error) error {
	return n.do(func() error {
		links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("opening a netlink socket: %w", err)
		}
		defer links.Close()
		return f(links)
	})
}

// enter moves the calling thread, which must be locked, into the namespace.
func (n *namespace) enter() error {
	return n.withDescriptor(func(fd int) error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return nil
	})
}

// withDescriptor runs f with a descriptor of the namespace that nobody closes meanwhile.
func (n *namespace) withDescriptor(f func(fd int) error) error {
	conn, err := n.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("using a network namespace: %w", err)
	}
	var result error
	if err := conn.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return fmt.Errorf("using a network namespace: %w", err)
	}
	return result
}

// onOwnThread runs f on a thread that it may move to other network namespaces, and returns when f has. The thread goes
// back to other goroutines only if it is back in its own namespace. f panics, and ends its goroutine, as if the caller
// had called it.
func onOwnThread(f func() error) error {
	var (
		err      error
		panicked any
		returned bool
		done     = make(chan struct{})
	)
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		runtime.LockOSThread()
		var home *namespace
		if home, err = namespaceOfThread(); err != nil {
			returned = true
			return
		}
		defer func() {
			if home.enter() == nil {
				runtime.UnlockOSThread()
			} // Otherwise the thread ends with this goroutine.
			home.close()
		}()
		err = f()
		returned = true
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
	if !returned {
		runtime.Goexit()
	}
	return err
}

// writeSysctls sets sysctls of the calling thread's network namespace. Keys are paths below /proc/sys/net.
func writeSysctls(values map[string]string) error {
	for name, value := range values {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0); err != nil {
			return fmt.Errorf("setting sysctl net/%s to %s: %w", name, value, err)
		}
	}
	return nil
}
