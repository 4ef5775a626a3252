package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Settings are what the outcome depends on besides Services, with networks of both families.
type Settings struct {
	// PodCIDRs tell pods by their source; pods cannot be told when empty.
	PodCIDRs      []netip.Prefix
	ServiceCIDRs  []netip.Prefix
	MasqueradeAll bool
	// NodePortAddresses are the networks whose addresses on the node have node ports; every address when nil.
	NodePortAddresses []netip.Prefix
	Zone              string
}

// Node is what package forwarding needs to know of the node.
func (s *Settings) Node() *forwarding.Node {
	detects := len(s.PodCIDRs) > 0
	return &forwarding.Node{
		Zone: s.Zone, Addresses: []netip.Addr{NodeAddress, Twin(NodeAddress)}, ServiceCIDRs: s.ServiceCIDRs,
		DetectsPods: [2]bool{detects, detects}, MasqueradeAll: s.MasqueradeAll,
	}
}

// Case is one state of a cluster, and packets sent in it.
type Case struct {
	Name     string
	Settings Settings
	Services []*Service
	Packets  []*Packet
}

// Table is the forwarding table of the case.
func (c *Case) Table() (*forwarding.Table, []forwarding.Change) {
	table, node := forwarding.NewTable(), c.Settings.Node()
	var changes []forwarding.Change
	inOrder := slices.SortedFunc(slices.Values(c.Services), func(a, b *Service) int {
		return forwarding.Before(a.Created, a.Name, b.Created, b.Name)
	})
	for _, s := range inOrder {
		ports, _ := forwarding.Compute(&s.Service, s.Slices, node)
		changes = append(changes, table.Update(s.Name, s.Created, ports)...)
	}
	return table, changes
}

// Read reads cases. Empty lines and what follows a # are passed over. Every other line begins with what it is:
//
//	case NAME              the lines up to the next case belong to it
//	like NAME              begins with the settings and Services of an earlier case
//	detect none            pods cannot be told from others
//	masqueradeAll
//	nodePortAddresses P,Q
//	zone NAME              the zone of the node, none if there is no name
//	service ...            see ParseService
//	packet ...             see ParsePacket
func Read(r io.Reader) ([]*Case, error) {
	var cases []*Case
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		var err error
		switch {
		case word == "":
		case word == "case":
			cases = append(cases, &Case{Name: rest, Settings: Defaults()})
		case len(cases) == 0:
			err = fmt.Errorf("%q stands before the first case", word)
		case word == "like":
			err = cases[len(cases)-1].like(rest, cases)
		default:
			err = cases[len(cases)-1].read(word, rest)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return cases, lines.Err()
}

// The addresses of the environment, and what follows from them.
var (
	NodeAddress    = netip.MustParseAddr("192.168.0.2")
	PodAddress     = netip.MustParseAddr("10.0.0.2")
	ExternalClient = netip.MustParseAddr("203.0.113.2")
	BlockedClient  = netip.MustParseAddr("203.0.113.130") // another one
)

// Defaults are the settings of a case that says nothing else.
func Defaults() Settings {
	pods, services := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.30.0.0/16")
	return Settings{
		PodCIDRs:     []netip.Prefix{pods, TwinPrefix(pods)},
		ServiceCIDRs: []netip.Prefix{services, TwinPrefix(services)},
		Zone:         Zone,
	}
}

func (c *Case) like(name string, cases []*Case) error {
	i := slices.IndexFunc(cases, func(other *Case) bool { return other.Name == name })
	if i < 0 || cases[i] == c {
		return fmt.Errorf("there is no case %q before this one", name)
	}
	c.Settings, c.Services = cases[i].Settings, slices.Clone(cases[i].Services)
	return nil
}

func (c *Case) read(word, rest string) (err error) {
	switch word {
	case "detect":
		c.Settings.PodCIDRs = nil
	case "masqueradeAll":
		c.Settings.MasqueradeAll = true
	case "nodePortAddresses":
		c.Settings.NodePortAddresses, err = Prefixes(rest)
	case "zone":
		c.Settings.Zone = rest
	case "service":
		var s *Service
		if s, err = ParseService(rest); err == nil {
			s.Created = int64(len(c.Services))
			c.Services = append(c.Services, s)
		}
	case "packet":
		var p *Packet
		if p, err = ParsePacket(rest); err == nil {
			c.Packets = append(c.Packets, p)
		}
	default:
		err = fmt.Errorf("%q is no word that a line begins with", word)
	}
	return err
}

// Packet is the first packet of a connection.
type Packet struct {
	// From is the host that sends it, with Source as its address.
	From        Host
	Source      netip.Addr
	Destination netip.AddrPort
	Protocol    forwarding.Protocol
	// Want is what should become of it.
	Want Outcome
}

// Host is where packets come from.
type Host string

// The hosts that send packets.
const (
	Node     Host = "node"
	Pod      Host = "pod"
	External Host = "external"
	Endpoint Host = "endpoint"
)

// Twin is the same packet in IPv6.
func (p *Packet) Twin() *Packet {
	q := *p
	q.Source, q.Destination = Twin(p.Source), netip.AddrPortFrom(Twin(p.Destination.Addr()), p.Destination.Port())
	q.Want.Backends = nil
	for _, b := range p.Want.Backends {
		q.Want.Backends = append(q.Want.Backends, netip.AddrPortFrom(Twin(b.Addr()), b.Port()))
	}
	return &q
}

// String is the packet as ParsePacket reads it, without the outcome.
func (p *Packet) String() string {
	return fmt.Sprintf("%s(%s) -> %s/%s", p.From, p.Source, p.Destination, p.Protocol)
}

// Verdict is what becomes of a packet that reaches no backend.
type Verdict string

// The verdicts.
const (
	// Forwarded goes to a backend.
	Forwarded Verdict = ""
	// Rejected is answered with an error.
	Rejected Verdict = "REJECT"
	// Dropped is not answered.
	Dropped Verdict = "DROP"
	// Untouched reaches the address that it was sent to.
	Untouched Verdict = "untouched"
)

// Outcome is what becomes of a packet.
type Outcome struct {
	Verdict Verdict
	// Backends are those that it may reach, sorted. Each must be reached sometimes.
	Backends []netip.AddrPort
	// Masquerade says that the backend sees the node's address.
	Masquerade bool
}

// String is the outcome as ParsePacket reads it.
func (o Outcome) String() string {
	if o.Verdict != Forwarded {
		return string(o.Verdict)
	}
	words := make([]string, 0, len(o.Backends)+1)
	for _, b := range o.Backends {
		words = append(words, b.String())
	}
	if o.Masquerade {
		words = append(words, "masq")
	}
	return strings.Join(words, " ")
}

// ParsePacket reads the line of a packet.
func ParsePacket(line string) (*Packet, error) {
	way, outcome, found := strings.Cut(line, "=>")
	source, destination, to := strings.Cut(way, "->")
	if !found || !to {
		return nil, fmt.Errorf("packet %q is not SOURCE -> DESTINATION => OUTCOME", line)
	}
	p := &Packet{}
	var err error
	if err = p.from(strings.TrimSpace(source)); err != nil {
		return nil, fmt.Errorf("packet %q: %w", line, err)
	}
	target, protocol, _ := strings.Cut(strings.TrimSpace(destination), "/")
	if p.Destination, err = netip.ParseAddrPort(target); err != nil {
		return nil, fmt.Errorf("packet %q: %w", line, err)
	}
	if p.Protocol, err = parseProtocol(protocol, nil); err != nil {
		return nil, fmt.Errorf("packet %q: %w", line, err)
	}
	for word := range strings.FieldsSeq(outcome) {
		switch v := Verdict(word); {
		case v == Rejected || v == Dropped || v == Untouched:
			p.Want.Verdict = v
		case word == "masq":
			p.Want.Masquerade = true
		default:
			backend, err := netip.ParseAddrPort(word)
			if err != nil {
				return nil, fmt.Errorf("packet %q: backend %q: %w", line, word, err)
			}
			p.Want.Backends = append(p.Want.Backends, backend)
		}
	}
	if (p.Want.Verdict == Forwarded) != (len(p.Want.Backends) > 0) {
		return nil, fmt.Errorf("packet %q: the outcome is backends or a verdict", line)
	}
	slices.SortFunc(p.Want.Backends, netip.AddrPort.Compare)
	return p, nil
}

// from reads a source: the name of a host, or host=address, or an address alone, which is that of an endpoint.
func (p *Packet) from(source string) (err error) {
	host, address, given := strings.Cut(source, "=")
	switch p.From = Host(host); p.From {
	case Node, Pod, External:
		byDefault := map[Host]netip.Addr{Node: NodeAddress, Pod: PodAddress, External: ExternalClient}
		p.Source = byDefault[p.From]
	default:
		p.From, address, given = Endpoint, host, true
	}
	if given {
		p.Source, err = netip.ParseAddr(address)
	}
	return err
}

// Expect is what a forwarding table says about a packet: a second opinion, read off the table without any kernel.
// It knows the addresses of the node, and that a pod is whoever has an address in PodCIDRs.
func (s *Settings) Expect(table *forwarding.Table, p *Packet, nodeAddresses []netip.Addr) Outcome {
	onNode := slices.Contains(nodeAddresses, p.Destination.Addr())
	hasNodePorts := onNode && (s.NodePortAddresses == nil || contains(s.NodePortAddresses, p.Destination.Addr()))
	ipv6 := p.Destination.Addr().Is6()
	var port *forwarding.ServicePort
	var frontend *forwarding.Frontend
	rank := 0
	for sp := range table.All {
		for i := range sp.Frontends {
			f := &sp.Frontends[i]
			this := 0
			switch k := f.Key; {
			case k.Addr == p.Destination.Addr() && k.Port == p.Destination.Port() && k.Protocol == p.Protocol:
				this = 3
			case k.Addr == p.Destination.Addr() && k.Protocol == 0:
				this = 2
			case !k.Addr.IsValid() && hasNodePorts && k.IPv6 == ipv6 && k.Port == p.Destination.Port() && k.Protocol == p.Protocol:
				this = 1
			}
			if this > rank {
				port, frontend, rank = sp, f, this
			}
		}
	}
	switch {
	case frontend == nil && contains(s.ServiceCIDRs, p.Destination.Addr()):
		return Outcome{Verdict: Rejected}
	case frontend == nil || frontend.Otherwise == forwarding.Ignore:
		return Outcome{Verdict: Untouched}
	}
	class := forwarding.Remote
	switch {
	case contains(s.PodCIDRs, p.Source):
		class = forwarding.Pod
	case p.From == Node:
		class = forwarding.Host
	}
	route := frontend.Routes[class]
	if route.Pool == forwarding.Nowhere || len(frontend.Sources) > 0 && !contains(frontend.Sources, p.Source) {
		return Outcome{Verdict: map[forwarding.Verdict]Verdict{forwarding.Reject: Rejected, forwarding.Drop: Dropped}[frontend.Otherwise]}
	}
	o := Outcome{Backends: slices.Clone(port.Backends(route.Pool)), Masquerade: route.Masquerade}
	if len(o.Backends) == 1 && o.Backends[0].Addr() == p.Source {
		o.Masquerade = true // a hairpin
	}
	slices.SortFunc(o.Backends, netip.AddrPort.Compare)
	return o
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
