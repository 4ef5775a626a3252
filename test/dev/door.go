package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// Nodes and pods are network namespaces without a name: they can be reached only through the process that holds them.
// It hands them out over a socket, as descriptors (SCM_RIGHTS, unix(7)): the client sends the name of a host, and gets
// its namespace with an empty answer, or an answer that says what is wrong.

// maxMessage is the longest message in either direction.
const maxMessage = 1 << 16

// open answers clients until the context ends.
func (h *house) open(ctx context.Context, listener net.Listener) {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		h.answer(conn.(*net.UnixConn))
		_ = conn.Close()
	}
}

func (h *house) answer(conn *net.UnixConn) {
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	buffer := make([]byte, maxMessage)
	n, err := conn.Read(buffer)
	if err != nil {
		return // the client is gone
	}
	hosts := h.hosts()
	host := hosts[strings.TrimSpace(string(buffer[:n]))]
	if host == nil {
		_, _ = conn.Write([]byte(strings.Join(slices.Sorted(maps.Keys(hosts)), " ")))
		return
	}
	_ = host.Do(func() error {
		namespace, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer func() { _ = namespace.Close() }()
		_, _, err = conn.WriteMsgUnix([]byte("\n"), unix.UnixRights(int(namespace.Fd())), nil)
		return err
	})
}

// knock asks for a host. It returns its network namespace, or the names of all hosts where there is none of that name.
func knock(ctx context.Context, p place, name string) (namespace *os.File, names []string, err error) {
	if _, err := p.owner(); err != nil {
		return nil, nil, err
	}
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", p.socket())
	if err != nil {
		return nil, nil, fmt.Errorf("reaching the dev cluster, which may still be starting: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(name + "\n")); err != nil {
		return nil, nil, fmt.Errorf("asking the dev cluster for host %s: %w", name, err)
	}
	text, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(text, rights)
	if err != nil {
		return nil, nil, fmt.Errorf("asking the dev cluster for host %s: %w", name, err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil || len(messages) == 0 {
		return nil, strings.Fields(string(text[:n])), err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, nil, fmt.Errorf("receiving the namespace of host %s: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), "network namespace of "+name), nil, nil
}

// enter moves the calling goroutine, and what it starts, into the network of a host for good.
func enter(ctx context.Context, p place, name string) error {
	namespace, names, err := knock(ctx, p, name)
	if err != nil {
		return err
	}
	if namespace == nil {
		return fmt.Errorf("there is no host %q; there are: %s", name, strings.Join(names, " "))
	}
	defer func() { _ = namespace.Close() }()
	runtime.LockOSThread() // never unlocked
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network of host %s (it needs root): %w", name, err)
	}
	return nil
}

func hosts(ctx context.Context, p place) error {
	_, names, err := knock(ctx, p, "?")
	if err != nil {
		return err
	}
	for _, name := range names {
		fmt.Println(name)
	}
	return nil
}

func ask(ctx context.Context, p place, name, address, network string) error {
	if err := enter(ctx, p, name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	reply, err := cluster.Greeting(ctx, conn)
	if err != nil {
		return err
	}
	fmt.Printf("%s answers, and sees %s\n", reply.Pod, reply.Client)
	return nil
}

// run becomes the command.
func run(ctx context.Context, p place, name string, command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("looking for the command: %w", err)
	}
	if err := enter(ctx, p, name); err != nil {
		return err
	}
	return errors.Join(fmt.Errorf("running %s", path), unix.Exec(path, command, os.Environ()))
}
