package health_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestHealth(t *testing.T) {
	specs.Run(t, "dataplane/health")
}

// enterNamespace puts the rest of a spec into a network namespace of its own, with the loopback interface up and more
// addresses on it. The thread stays locked, so that it ends with the spec's goroutine, and the namespace with it.
func enterNamespace(addresses ...string) {
	GinkgoHelper()
	runtime.LockOSThread()
	Expect(unix.Unshare(unix.CLONE_NEWNET)).To(Succeed(), "making a network namespace needs root")
	loopback, err := netlink.LinkByName("lo")
	Expect(err).NotTo(HaveOccurred())
	Expect(netlink.LinkSetUp(loopback)).To(Succeed())
	for _, a := range addresses {
		ip := netip.MustParseAddr(a)
		addr, err := netlink.ParseAddr(netip.PrefixFrom(ip, ip.BitLen()).String())
		Expect(err).NotTo(HaveOccurred())
		addr.Flags = unix.IFA_F_NODAD
		Expect(netlink.AddrAdd(loopback, addr)).To(Succeed())
	}
}

// connection is an HTTP connection made in the network namespace of the spec; a client of package http would make it on
// another thread.
type connection struct {
	net.Conn
	reader *bufio.Reader
}

func connect(addr string, port uint16) (*connection, error) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(addr, fmt.Sprint(port)), time.Minute)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return &connection{conn, bufio.NewReader(conn)}, nil
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   string
}

// get asks for a path.
func (c *connection) get(path string) (answer, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: node\r\n\r\n", path); err != nil {
		return answer{}, fmt.Errorf("asking: %w", err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return answer{}, fmt.Errorf("reading the body: %w", err)
	}
	return answer{response.StatusCode, response.Header, string(body)}, nil
}

// ask connects, asks once, and returns the status code, or an error where nobody listens.
func ask(addr string, port uint16) (int, error) {
	c, err := connect(addr, port)
	if err != nil {
		return 0, err
	}
	a, err := c.get("/")
	return a.code, errors.Join(err, c.Close())
}
