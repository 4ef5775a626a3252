package conntrack

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// flowMessage is a flow as the kernel reports one, of UDP.
func flowMessage(family uint8, client, service, backend netip.Addr) []byte {
	source, destination := uint16(attrIPv4Source), uint16(attrIPv4Destination)
	if family == unix.AF_INET6 {
		source, destination = attrIPv6Source, attrIPv6Destination
	}
	body := begin(family)
	direction := func(kind uint16, from, to netip.Addr) {
		body.Nested(kind, func(a *netlink.Attributes) {
			a.Nested(attrTupleIP, func(a *netlink.Attributes) {
				a.Bytes(source, from.AsSlice())
				a.Bytes(destination, to.AsSlice())
			})
			a.Nested(attrTupleProto, func(a *netlink.Attributes) {
				a.Uint8(attrProtoNumber, unix.IPPROTO_UDP)
				a.Bytes(attrProtoSource, []byte{0x80, 1})
				a.Bytes(attrProtoDestination, []byte{0, 53})
			})
		})
	}
	direction(attrTupleOrig, client, service)
	direction(attrTupleReply, backend, client)
	body.Bytes(attrZone, []byte{0, 1})
	body.Uint32(attrID, 7)
	return body
}

// FuzzFlow reads messages about flows that no kernel would send. What is taken for a flow can be asked to be removed.
func FuzzFlow(f *testing.F) {
	addr := netip.MustParseAddr
	f.Add(flowMessage(unix.AF_INET, addr("10.180.0.1"), addr("172.30.0.10"), addr("10.180.0.2")))
	f.Add(flowMessage(unix.AF_INET6, addr("fd00::1"), addr("fd00::2"), addr("fd00::3")))
	f.Add([]byte{unix.AF_INET, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		var e entry
		if !e.parse(body) {
			return
		}
		if !e.from.Addr().IsValid() {
			t.Errorf("a flow without the address that answers: %+v", e.flow)
		}
		if removal := e.removal(); len(removal.Body) > len(body) {
			t.Errorf("%d bytes name a flow that was reported in %d", len(removal.Body), len(body))
		}
		for _, asked := range []filter{{}, {ipv6: true}, {addr: e.to.Addr(), port: e.to.Port()}} {
			asked.takes(&e)
		}
	})
}
