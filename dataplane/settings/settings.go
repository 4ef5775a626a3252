// Package settings works out what the settings of a ServiceProxyConfig come to on one node: what rules and virtual servers
// depend on, parameters of the kernel, and times. It decides and touches nothing.
package settings

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/utils/ptr"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// The defaults of settings that are not given. The API leaves them open, so that they can be improved without touching
// the objects in a cluster.
const (
	defaultMarkBit = 14 // kube-proxy's
	defaultDrain   = time.Hour

	// DefaultFullInterval is how often the kernel is read where nobody has said how often.
	DefaultFullInterval = 10 * time.Minute
)

// Plan is what the settings of an assignment come to on one node.
type Plan struct {
	Mode v1alpha1.Mode
	// Node is what the forwarding table depends on.
	Node forwarding.Node
	// IPTables says what rules depend on, in either mode, and IPVS what virtual servers do; it is zero in mode iptables.
	IPTables iptables.Settings
	IPVS     ipvs.Settings
	// Addresses are those that the node really has. Resolve does not know them: mode IPVS asks whoever it is for to add them.
	Addresses []netip.Addr
	// NodePortAddresses are the networks whose addresses on the node have node ports; every address when nil.
	NodePortAddresses []netip.Prefix
	// First are the parameters of the kernel that have to be set before anything is written, and Kernel all of them.
	First, Kernel []conntrack.Write
	DrainTimeout  time.Duration
	Pace          Pace
}

// Machine is what settings depend on of the machine that carries them out.
type Machine struct {
	// Cores is how many CPUs it has.
	Cores int
	// Release is that of its kernel, such as 6.1.0-44-amd64.
	Release string
}

// DrainTimeout is how long a real server that left keeps its connections.
func DrainTimeout(s *v1alpha1.IPVS) time.Duration {
	if s.DrainTimeoutSeconds == nil {
		return defaultDrain
	}
	return time.Duration(*s.DrainTimeoutSeconds) * time.Second
}

// Resolve works out what settings come to on a node. An error names the field that cannot be carried out there, and what
// would be right.
func Resolve(s *v1alpha1.ProxySettings, world *catalog.World, machine Machine) (Plan, error) {
	p := Plan{
		Mode:         s.Mode,
		DrainTimeout: DrainTimeout(&s.IPVS),
		IPTables: iptables.Settings{
			MarkBit:       defaultMarkBit,
			MasqueradeAll: s.Masquerade.Policy == v1alpha1.MasqueradeAll,
			ServiceCIDRs:  world.ServiceCIDRs,

			LocalhostNodePorts: s.NodePorts.Localhost != v1alpha1.SwitchDisabled,
			KeepInvalid:        s.Conntrack.TCPBeLiberal == v1alpha1.SwitchEnabled,
		},
		Pace: Pace{FullInterval: DefaultFullInterval},
	}
	if s.Masquerade.Bit != nil {
		if *s.Masquerade.Bit < 0 || *s.Masquerade.Bit > 31 {
			return Plan{}, fmt.Errorf("spec.masquerade.bit: %d is not between 0 and 31", *s.Masquerade.Bit)
		}
		p.IPTables.MarkBit = int(*s.Masquerade.Bit)
	}
	if err := resolveLocalTraffic(&s.Masquerade.LocalTraffic, world, &p.IPTables); err != nil {
		return Plan{}, err
	}
	var err error
	if p.IPTables.NodePortAddresses, err = resolveNodePorts(s.NodePorts.Addresses, world.Node.Addresses); err != nil {
		return Plan{}, err
	}
	p.Kernel = resolveConntrack(&s.Conntrack).Writes(machine.Cores)
	p.NodePortAddresses = p.IPTables.NodePortAddresses
	if s.Mode == v1alpha1.ModeIPVS {
		if err := p.resolveIPVS(&s.IPVS, world, machine.Release); err != nil {
			return Plan{}, err
		}
	} else if p.IPTables.LocalhostNodePortsOpen() {
		p.Kernel = append(p.Kernel, conntrack.Write{Path: "proc/sys/net/ipv4/conf/all/route_localnet", Value: 1})
	}
	if s.Sync.FullIntervalSeconds != nil {
		p.Pace.FullInterval = time.Duration(*s.Sync.FullIntervalSeconds) * time.Second
	}
	if s.Sync.MinIntervalMilliseconds != nil {
		gap := time.Duration(*s.Sync.MinIntervalMilliseconds) * time.Millisecond
		p.Pace.MinInterval = &gap
	}
	p.Node = forwarding.Node{
		Zone:          world.Node.Zone,
		Addresses:     world.Node.Addresses,
		ServiceCIDRs:  world.ServiceCIDRs,
		DetectsPods:   [2]bool{p.IPTables.DetectsPods(false), p.IPTables.DetectsPods(true)},
		MasqueradeAll: p.IPTables.MasqueradeAll,
	}
	return p, nil
}

// resolveIPVS works out what differs in mode IPVS.
func (p *Plan) resolveIPVS(s *v1alpha1.IPVS, world *catalog.World, release string) error {
	excluded, err := parsePrefixes("spec.ipvs.excludeCIDRs", s.ExcludeCIDRs)
	if err != nil {
		return err
	}
	p.First = virtualserver.Writes(release, s.StrictARP == v1alpha1.SwitchEnabled)
	// They are looked after like the others.
	p.Kernel = append(slices.Clone(p.First), p.Kernel...)
	seconds := func(given *int32) time.Duration { return time.Duration(ptr.Deref(given, 0)) * time.Second }
	p.IPVS = ipvs.Settings{
		MarkBit:           p.IPTables.MarkBit,
		Pods:              xtables.Pods{CIDRs: p.IPTables.PodCIDRs, Interface: p.IPTables.PodInterface},
		ServiceCIDRs:      world.ServiceCIDRs,
		NodeAddresses:     world.Node.Addresses,
		NodePortAddresses: p.NodePortAddresses,
		KeepInvalid:       p.IPTables.KeepInvalid,
		Scheduler:         string(cmp.Or(s.Scheduler, v1alpha1.SchedulerRoundRobin)),
		ExcludeCIDRs:      excluded,
		DrainTimeout:      p.DrainTimeout,
		TCPTimeout:        seconds(s.TCPTimeoutSeconds),
		TCPFinTimeout:     seconds(s.TCPFinTimeoutSeconds),
		UDPTimeout:        seconds(s.UDPTimeoutSeconds),
	}
	return nil
}

// resolveConntrack fills in kube-proxy's defaults.
func resolveConntrack(c *v1alpha1.Conntrack) *conntrack.Settings {
	seconds := func(given *int32, unset time.Duration) time.Duration {
		if given == nil {
			return unset
		}
		return time.Duration(*given) * time.Second
	}
	liberal := c.TCPBeLiberal == v1alpha1.SwitchEnabled
	return &conntrack.Settings{
		MaxPerCore:            int(ptr.Deref(c.MaxPerCore, 32*1024)),
		Min:                   int(ptr.Deref(c.Min, 128*1024)),
		TCPEstablishedTimeout: seconds(c.TCPEstablishedTimeoutSeconds, 24*time.Hour),
		TCPCloseWaitTimeout:   seconds(c.TCPCloseWaitTimeoutSeconds, time.Hour),
		UDPTimeout:            seconds(c.UDPTimeoutSeconds, 0),
		UDPStreamTimeout:      seconds(c.UDPStreamTimeoutSeconds, 0),
		TCPBeLiberal:          &liberal,
	}
}

func resolveLocalTraffic(l *v1alpha1.LocalTraffic, world *catalog.World, settings *iptables.Settings) error {
	const field = "spec.masquerade.localTraffic"
	switch l.Detect {
	case "", v1alpha1.DetectNodePodCIDR:
		settings.PodCIDRs = world.Node.PodCIDRs
	case v1alpha1.DetectClusterCIDR:
		cidrs, err := parsePrefixes(field+".clusterCIDRs", l.ClusterCIDRs)
		if err != nil {
			return err
		}
		settings.PodCIDRs = cidrs
	case v1alpha1.DetectBridgeInterface, v1alpha1.DetectInterfaceNamePrefix:
		if l.Interface == "" {
			return fmt.Errorf("%s.interface: a name is needed with detect: %s", field, l.Detect)
		}
		settings.PodInterface = l.Interface
		if l.Detect == v1alpha1.DetectInterfaceNamePrefix {
			settings.PodInterface += "+"
		}
	default:
		return fmt.Errorf("%s.detect: this agent does not know %q; it knows %s, %s, %s and %s", field, l.Detect,
			v1alpha1.DetectNodePodCIDR, v1alpha1.DetectClusterCIDR, v1alpha1.DetectBridgeInterface, v1alpha1.DetectInterfaceNamePrefix)
	}
	return nil
}

func resolveNodePorts(addresses []string, nodeAddresses []netip.Addr) ([]netip.Prefix, error) {
	const field = "spec.nodePorts.addresses"
	if len(addresses) == 0 {
		return nil, nil
	}
	if slices.Equal(addresses, []string{v1alpha1.NodePortAddressPrimary}) {
		prefixes := []netip.Prefix{}
		for _, a := range nodeAddresses {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
		if len(prefixes) == 0 {
			return nil, fmt.Errorf("%s: the Node has no address in status.addresses that Primary could mean", field)
		}
		return prefixes, nil
	}
	return parsePrefixes(field, addresses)
}

func parsePrefixes(field string, texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for i, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %q is not a CIDR such as 10.244.0.0/16", field, i, text)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

// Cross says whether rules of both modes are in the kernel.
func (p *Plan) Cross(both bool) {
	p.IPTables.ForeignMarks = 0
	if both {
		p.IPTables.ForeignMarks = ipvs.Marks
	}
}

// Pace says when the kernel is written and read.
type Pace struct {
	// MinInterval is the shortest time between two writes; adaptive when nil.
	MinInterval *time.Duration
	// FullInterval is the time between two readings of the kernel.
	FullInterval time.Duration
}

// The bounds of the adaptive pause between two writes.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = time.Second
	// pauseFactor keeps the share of time that is spent writing below one in five.
	pauseFactor = 4
)

// Pause is how long to wait after a write that took some time: as many times as long, so that a storm of changes costs
// a bounded share of one CPU, and no shorter than people notice, because a write that takes no time has changes read, computed and
// told of all the same. A lone change, which comes after any pause is over, is written at once.
func (p Pace) Pause(took time.Duration) time.Duration {
	if p.MinInterval != nil {
		return *p.MinInterval
	}
	return min(max(pauseFactor*took, shortestPause), longestPause)
}
