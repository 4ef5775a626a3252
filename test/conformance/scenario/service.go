package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// NodeName and Zone are the node and the zone that hints are compared with, unless a case says otherwise.
const (
	NodeName = "n1"
	Zone     = "A"
)

// Service is a Service and its EndpointSlices, as package catalog would hand them over.
type Service struct {
	forwarding.Service
	Slices []*forwarding.Slice
}

// Twin is the IPv6 address that stands for an IPv4 address.
func Twin(a netip.Addr) netip.Addr {
	b := a.As4()
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 9: b[0], 11: b[1], 13: b[2], 15: b[3]})
}

// TwinPrefix is the IPv6 network of the twins of an IPv4 network.
func TwinPrefix(p netip.Prefix) netip.Prefix {
	bits := 64 + p.Bits()/8*16
	if rest := p.Bits() % 8; rest > 0 {
		bits += 8 + rest
	}
	if p.Bits() == 0 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(Twin(p.Addr()), bits)
}

// ParseService reads the line of a Service.
func ParseService(line string) (*Service, error) {
	before, after, _ := strings.Cut(line, "->")
	words := strings.Fields(before)
	if len(words) < 2 {
		return nil, fmt.Errorf("service %q needs a name and an address", line)
	}
	s := &Service{}
	s.Name = types.NamespacedName{Namespace: "ns", Name: words[0]}
	var err error
	if s.ClusterIPs, err = addresses(words[1]); err != nil {
		return nil, fmt.Errorf("service %q: %w", line, err)
	}
	var targets []forwarding.SlicePort
	for _, word := range words[2:] {
		if word[0] >= '0' && word[0] <= '9' || strings.Contains(word, ":") && !strings.Contains(word, "=") {
			port, target, err := parsePort(word)
			if err != nil {
				return nil, fmt.Errorf("service %q: port %q: %w", line, word, err)
			}
			s.Ports, targets = append(s.Ports, port), append(targets, target)
		} else if err := s.set(word); err != nil {
			return nil, fmt.Errorf("service %q: %w", line, err)
		}
	}
	v4, v6 := &forwarding.Slice{Ports: targets}, &forwarding.Slice{Ports: targets}
	for word := range strings.FieldsSeq(after) {
		e, err := parseEndpoint(word)
		if err != nil {
			return nil, fmt.Errorf("service %q: endpoint %q: %w", line, word, err)
		}
		v4.Endpoints = append(v4.Endpoints, e)
		e.Addr = Twin(e.Addr)
		v6.Endpoints = append(v6.Endpoints, e)
	}
	s.Slices = []*forwarding.Slice{v4, v6}
	return s, nil
}

func (s *Service) set(word string) (err error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "vip":
		s.LoadBalancerIPs, err = addresses(value)
	case "xip":
		s.ExternalIPs, err = addresses(value)
	case "ranges":
		s.SourceRanges, err = Prefixes(value)
	case "eTP":
		s.ExternalLocal = value == "Local"
	case "iTP":
		s.InternalLocal = value == "Local"
	case "foreign":
		s.Foreign = true
	case "affinity":
		var seconds uint64
		seconds, err = strconv.ParseUint(value, 10, 32)
		s.AffinitySeconds = uint32(seconds)
	default:
		return fmt.Errorf("%q is no property of a Service", word)
	}
	if err != nil {
		return fmt.Errorf("property %q: %w", word, err)
	}
	return nil
}

// addresses reads IPv4 addresses and returns them with their twins.
func addresses(list string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for text := range strings.SplitSeq(list, ",") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, addr, Twin(addr))
	}
	return addrs, nil
}

// Prefixes reads IPv4 networks and returns them with their twins.
func Prefixes(list string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for text := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, p, TwinPrefix(p))
	}
	return prefixes, nil
}

func parsePort(word string) (port forwarding.Port, target forwarding.SlicePort, err error) {
	number := func(text string) uint16 {
		n, bad := strconv.ParseUint(text, 10, 16)
		if bad != nil {
			err = bad
		}
		return uint16(n)
	}
	if name, rest, named := strings.Cut(word, ":"); named {
		port.Name, word = name, rest
	}
	word, nodePort, hasNodePort := strings.Cut(word, "^")
	if hasNodePort {
		port.NodePort = number(nodePort)
	}
	word, targetPort, hasTarget := strings.Cut(word, ">")
	word, protocol, _ := strings.Cut(word, "/")
	port.Port = number(word)
	if port.Protocol, err = parseProtocol(protocol, err); err != nil {
		return port, target, err
	}
	target = forwarding.SlicePort{Name: port.Name, Protocol: port.Protocol, Port: port.Port}
	if hasTarget {
		target.Port = number(targetPort)
	}
	return port, target, err
}

func parseProtocol(name string, err error) (forwarding.Protocol, error) {
	if name == "" {
		return forwarding.TCP, err
	}
	for _, p := range []forwarding.Protocol{forwarding.TCP, forwarding.UDP, forwarding.SCTP} {
		if p.String() == name {
			return p, err
		}
	}
	return 0, fmt.Errorf("%q is no protocol", name)
}

func parseEndpoint(word string) (forwarding.Endpoint, error) {
	parts := strings.Split(word, "/")
	addr, err := netip.ParseAddr(parts[0])
	if err != nil {
		return forwarding.Endpoint{}, err
	}
	e := forwarding.Endpoint{Addr: addr, Ready: true, Serving: true}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "local":
			e.Local = true
		case "terminating":
			e.Ready, e.Terminating = false, true
		case "dead":
			e.Ready, e.Serving, e.Terminating = false, false, true
		case "unready":
			e.Ready, e.Serving = false, false
		case "zone":
			e.ZoneHints = strings.Split(value, ",")
		case "node":
			e.NodeHints, e.ThisNode = true, slices.Contains(strings.Split(value, ","), NodeName)
		default:
			return e, fmt.Errorf("%q is no property of an endpoint", part)
		}
	}
	return e, nil
}
