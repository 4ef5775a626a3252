package ipvs_test

import (
	"context"
	"net"

	moby "github.com/moby/ipvs"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"
)

// newForeign makes things that belong to somebody else: a virtual server, a set, a chain and a route. It returns the
// virtual server as servers lists it.
func newForeign(context.Context) string {
	GinkgoHelper()
	h, err := moby.New("")
	Expect(err).NotTo(HaveOccurred())
	defer h.Close()
	s := &moby.Service{Address: net.IPv4(172, 30, 0, 99), Protocol: unix.IPPROTO_TCP, Port: 80, SchedName: "wlc",
		AddressFamily: unix.AF_INET, Netmask: 0xffffffff}
	Expect(h.NewService(s)).To(Succeed())
	Expect(h.NewDestination(s, &moby.Destination{Address: net.IPv4(10, 9, 9, 9), Port: 8080, Weight: 3, AddressFamily: unix.AF_INET})).To(Succeed())
	run("ipset", "create", "FOREIGN", "hash:ip")
	run("ipset", "add", "FOREIGN", "10.9.9.9")
	run("iptables-legacy", "-t", "mangle", "-N", "FOREIGN")
	run("iptables-legacy", "-t", "mangle", "-A", "INPUT", "-m", "comment", "--comment", "SPROXYVS-IN", "-j", "FOREIGN")
	run("ip", "route", "add", "local", "172.29.0.0/16", "dev", "lo")
	return "tcp 172.30.0.99:80 wlc 10.9.9.9:8080*3"
}
