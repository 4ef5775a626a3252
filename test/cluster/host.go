package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// Host is a place in the network: a node, a pod, the client outside, or the control plane. It is a network namespace
// with addresses.
type Host struct {
	// Name is unique in the cluster.
	Name string
	// IPv4 and IPv6 are its addresses, not valid in a family that the cluster does not have.
	IPv4, IPv6 netip.Addr

	ns       *namespace
	launcher *launcher
	dir      string // scratch files
	logs     string

	mu        sync.Mutex
	processes map[*Process]struct{} // that have not ended; nil once the host is closed
}

// newHost makes a host in a new namespace. dir and logs are folders; the host has a folder of its own in dir, and the
// names of its logs begin with its own.
func newHost(name string, sysctls map[string]string, l *launcher, dir, logs string) (*Host, error) {
	all := map[string]string{
		// No address waits to be tried for duplicates.
		"ipv6/conf/all/accept_dad":     "0",
		"ipv6/conf/default/accept_dad": "0",
		// Routes are those of the harness alone. Pods of one node reach each other through the node, which would like
		// them to know a shorter way.
		"ipv4/conf/all/accept_redirects":     "0",
		"ipv4/conf/default/accept_redirects": "0",
		"ipv4/conf/all/send_redirects":       "0",
		"ipv4/conf/default/send_redirects":   "0",
		"ipv6/conf/all/accept_redirects":     "0",
		"ipv6/conf/default/accept_redirects": "0",
		"ipv6/conf/all/accept_ra":            "0",
		"ipv6/conf/default/accept_ra":        "0",
		// A closed socket keeps its namespace until its peer has agreed or the kernel gives up: in seconds, not minutes.
		"ipv4/tcp_orphan_retries": "3",
		"ipv4/tcp_fin_timeout":    "5",
		// What the machine has set is inherited; this is what the kernel starts with.
		"ipv4/conf/all/rp_filter":     "0",
		"ipv4/conf/default/rp_filter": "0",
	}
	maps.Copy(all, sysctls)
	ns, err := newNamespace(all)
	if err != nil {
		return nil, fmt.Errorf("making host %s: %w", name, err)
	}
	return &Host{
		Name: name, ns: ns, launcher: l, dir: filepath.Join(dir, name), logs: logs,
		processes: map[*Process]struct{}{},
	}, nil
}

// forwarding are the sysctls of a host that forwards packets.
func forwarding() map[string]string {
	return map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
}

// Addresses returns its addresses, in the order of the IP families of the cluster's hosts: IPv4, IPv6.
func (h *Host) Addresses() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{h.IPv4, h.IPv6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// addressIn returns its address in the IP family of networks.
func (h *Host) addressIn(a addresses) netip.Addr {
	if a.family == corev1.IPv4Protocol {
		return h.IPv4
	}
	return h.IPv6
}

// setAddress notes an address of the host.
func (h *Host) setAddress(a netip.Addr) {
	if a.Is4() {
		h.IPv4 = a
	} else {
		h.IPv6 = a
	}
}

// Do runs f on a thread that is in the network namespace of the host. Sockets and processes that f makes belong to the
// host for good; goroutines that it starts do not. In f, /proc/sys/net and /proc/thread-self/net are the host's, while
// /proc/net and /sys/class/net are not.
func (h *Host) Do(f func() error) error { return h.ns.do(f) }

// Configure runs f with a handle on the links, addresses, routes and rules of the host.
func (h *Host) Configure(f func(*netlink.Handle) error) error { return h.ns.configure(f) }

// AddAddress gives the host one more address, on its loopback interface, to be used at once.
func (h *Host) AddAddress(address netip.Addr) error {
	return h.Configure(func(links *netlink.Handle) error {
		loopback, err := links.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("finding the loopback interface: %w", err)
		}
		return addAddress(links, loopback, alone(address))
	})
}

// Dir returns a folder for files of the host, such as the state of a process. It goes when the host goes.
func (h *Host) Dir() (string, error) {
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return "", fmt.Errorf("making the folder of host %s: %w", h.Name, err)
	}
	return h.dir, nil
}

// Start starts a process on the host. It runs until it ends, is stopped, or its host is.
func (h *Host) Start(spec ProcessSpec) (*Process, error) {
	if spec.Name == "" {
		spec.Name = filepath.Base(spec.Path)
	}
	env, err := h.environment()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.processes == nil {
		return nil, fmt.Errorf("starting %s on host %s: %w", spec.Name, h.Name, errStopped)
	}
	p, err := h.launcher.startProcess(spec, h.ns, filepath.Join(h.logs, h.Name+"-"+spec.Name+".log"), env)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	h.processes[p] = struct{}{}
	go func() {
		<-p.Done()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.processes, p)
	}()
	return p, nil
}

// Run runs a program on the host to its end and returns what it wrote to standard output. The error of a failure holds
// what it wrote to standard error.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	return h.RunProcess(ctx, ProcessSpec{Path: name, Args: args})
}

// RunInput is Run with text on standard input.
func (h *Host) RunInput(ctx context.Context, input, name string, args ...string) (string, error) {
	return h.RunProcess(ctx, ProcessSpec{Path: name, Args: args, Stdin: strings.NewReader(input)})
}

// RunProcess is Run with all that can be said about a process.
func (h *Host) RunProcess(ctx context.Context, spec ProcessSpec) (string, error) {
	env, err := h.environment()
	if err != nil {
		return "", err
	}
	out, err := h.launcher.run(ctx, spec, h.ns, env)
	if err != nil {
		return out, fmt.Errorf("host %s: %w", h.Name, err)
	}
	return out, nil
}

// environment gives legacy iptables a lock of the host's own: the usual one is a file, which network namespaces share.
func (h *Host) environment() ([]string, error) {
	dir, err := h.Dir()
	if err != nil {
		return nil, err
	}
	return []string{"XTABLES_LOCKFILE=" + filepath.Join(dir, "xtables.lock")}, nil
}

// Dial connects from the host. The address is IP:port; there is no name server.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.DialFrom(ctx, network, address, 0)
}

// DialFrom is Dial from a port of the host; from any when it is 0.
func (h *Host) DialFrom(ctx context.Context, network, address string, port uint16) (net.Conn, error) {
	var dialer net.Dialer
	if port != 0 {
		dialer.ControlContext = reuse // as for any port, only the whole connection has to be a new one
		dialer.LocalAddr = &net.TCPAddr{Port: int(port)}
		if network == "udp" {
			dialer.LocalAddr = &net.UDPAddr{Port: int(port)}
		}
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("from host %s: %w", h.Name, err)
	}
	return conn, nil
}

func reuse(_ context.Context, _, _ string, conn syscall.RawConn) (err error) {
	controlErr := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(controlErr, err)
}

// Listen listens for connections on the host.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	config.KeepAlive = -1 // which takes four system calls for each connection
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = config.Listen(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("on host %s: %w", h.Name, err)
	}
	return listener, nil
}

// ListenPacket listens for datagrams on the host.
func (h *Host) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = (&net.ListenConfig{}).ListenPacket(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("on host %s: %w", h.Name, err)
	}
	return conn, nil
}

// kill ends the processes of the host with SIGKILL.
func (h *Host) kill() {
	h.mu.Lock()
	processes := slices.Collect(maps.Keys(h.processes))
	h.mu.Unlock()
	for _, p := range processes {
		p.Kill()
	}
}

// close ends the processes of the host, each with SIGTERM, and lets go of its namespace.
func (h *Host) close() error {
	h.mu.Lock()
	processes := slices.Collect(maps.Keys(h.processes))
	h.processes = nil
	h.mu.Unlock()

	stops := make([]func() error, len(processes))
	for i, p := range processes {
		stops[i] = func() error { return p.Stop(context.Background()) }
	}
	err := together(stops)
	h.ns.close()
	if removal := os.RemoveAll(h.dir); removal != nil {
		err = errors.Join(err, fmt.Errorf("removing the files of host %s: %w", h.Name, removal))
	}
	return err
}
