package scenario

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// Pools from which random Services take their addresses. They are small, so that Services meet in them.
const (
	randomOutsideIPs = 12
	// The node ports begin with FirstRandomNodePort.
	RandomNodePorts     = 40
	FirstRandomNodePort = 30000
)

// RandomService is the line of a Service that is drawn at random, and named and addressed by a number below 200. Lines
// with different numbers are valid together; several may claim one external or load balancer IP, or one node port.
func RandomService(r *rand.Rand, number int) string {
	oneOf := func(words ...string) string { return words[r.IntN(len(words))] }
	words := []string{fmt.Sprintf("svc%d", number), fmt.Sprintf("172.30.%d.%d", number%4, number)}
	if r.IntN(20) == 0 {
		words = append(words, "foreign")
	}
	ports := 1 + r.IntN(3)
	exposed := r.IntN(2) == 0
	for i := range ports {
		port := fmt.Sprintf("p%d:%s%s>%d", i, oneOf("80", "443", "53", "8080"), oneOf("", "", "/udp"), 8080+i)
		if exposed {
			port += fmt.Sprintf("^%d", FirstRandomNodePort+r.IntN(RandomNodePorts))
		}
		words = append(words, port)
	}
	if r.IntN(3) == 0 {
		words = append(words, fmt.Sprintf("vip=198.51.100.%d", r.IntN(randomOutsideIPs)))
		if r.IntN(2) == 0 {
			words = append(words, "ranges="+oneOf("203.0.113.0/25", "192.168.0.0/24,203.0.113.0/30", "10.0.0.0/8", "0.0.0.0/0"))
		}
	}
	if r.IntN(6) == 0 {
		words = append(words, fmt.Sprintf("xip=198.51.100.%d", r.IntN(randomOutsideIPs)))
	}
	if r.IntN(3) == 0 {
		words = append(words, "eTP=Local")
	}
	if r.IntN(4) == 0 {
		words = append(words, "iTP=Local")
	}
	if r.IntN(8) == 0 {
		words = append(words, "affinity="+oneOf("60", "10800"))
	}
	words = append(words, "->")
	for range r.IntN(1 + []int{1, 2, 4, 8}[r.IntN(4)]) {
		e := fmt.Sprintf("10.180.%d.%d", r.IntN(4), 1+r.IntN(50))
		e += oneOf("", "", "/local")
		e += oneOf("", "", "", "/terminating", "/dead", "/unready")
		e += oneOf("", "", "/zone=A", "/zone=B,C")
		words = append(words, e)
	}
	return strings.Join(words, " ")
}

// RandomPacket is a packet that is drawn at random from those that concern a Service, and now and then another one.
func RandomPacket(r *rand.Rand, services []*Service) *Packet {
	p := &Packet{From: []Host{Node, Pod, External}[r.IntN(3)]}
	p.Source = map[Host]netip.Addr{Node: NodeAddress, Pod: PodAddress, External: ExternalClient}[p.From]
	if p.From == External && r.IntN(3) == 0 {
		p.Source = BlockedClient
	}
	s := services[r.IntN(len(services))]
	port := s.Ports[r.IntN(len(s.Ports))]
	addrs := slices.DeleteFunc(slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs), netip.Addr.Is6)
	number := port.Port
	if at := r.IntN(len(addrs) + 1); at < len(addrs) {
		p.Destination = netip.AddrPortFrom(addrs[at], number)
	} else {
		if port.NodePort != 0 {
			number = port.NodePort
		}
		p.Destination = netip.AddrPortFrom(NodeAddress, number)
	}
	p.Protocol = port.Protocol
	if r.IntN(12) == 0 {
		p.Destination = netip.AddrPortFrom(p.Destination.Addr(), 9)
	}
	return p
}
