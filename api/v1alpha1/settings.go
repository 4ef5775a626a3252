package v1alpha1

// Mode is the way a node's kernel is taught about Services.
// +kubebuilder:validation:Enum=iptables;IPVS
type Mode string

const (
	// ModeIPTables programs DNAT rules into the tables of iptables, through the backend (nft or legacy) that the
	// node already uses.
	ModeIPTables Mode = "iptables"
	// ModeIPVS programs virtual servers into the kernel's load balancer (ipvsadm(8)), and what it leaves out into a fixed
	// handful of rules and sets.
	ModeIPVS Mode = "IPVS"
)

// ProxySettings says how Services are programmed on a node. It stands in line in the spec of both kinds: people write
// it in a ServiceProxyConfig, and the operator copies it whole into the ServiceProxyNode of every node of the pool, so
// that a node never depends on the config being readable.
// +kubebuilder:validation:XValidation:rule="self.mode == 'IPVS' || !has(self.ipvs)",message="ipvs has no meaning unless mode is IPVS",fieldPath=".ipvs"
type ProxySettings struct {
	// mode is the way the kernel is programmed: iptables or IPVS. Changing it moves a node over while it works: the
	// connections that it has end where they began, and new ones go the new way.
	// +required
	Mode Mode `json:"mode,omitempty"`

	// ipvs tunes mode IPVS.
	// +optional
	IPVS IPVS `json:"ipvs,omitzero"`

	// masquerade says which connections get the node's address as their source, and how local traffic is told apart.
	// +optional
	Masquerade Masquerade `json:"masquerade,omitzero"`

	// nodePorts says on which addresses of the node its node ports are open.
	// +optional
	NodePorts NodePorts `json:"nodePorts,omitzero"`

	// conntrack sizes the kernel's table of connections and says how long it remembers them.
	// +optional
	Conntrack Conntrack `json:"conntrack,omitzero"`

	// sync says how often the kernel is written and how often it is read back.
	// +optional
	Sync Sync `json:"sync,omitzero"`

	// probes are connections that a node tries before and after it takes over new settings. One that worked before and
	// does not work after takes the node back to the settings it had. The API server is tried at the cluster IP of the
	// Service kubernetes whether there are probes or not.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Probes []Probe `json:"probes,omitempty"`
}

// Scheduler is a way to choose a real server for a connection, by the name that ipvsadm(8) gives it.
// +kubebuilder:validation:Enum=rr;wrr;lc;wlc;sh;dh;sed;nq;mh
type Scheduler string

// SchedulerRoundRobin gives each real server a connection in turn.
const SchedulerRoundRobin Scheduler = "rr"

// IPVS tunes mode IPVS.
// +kubebuilder:validation:MinProperties=1
type IPVS struct {
	// scheduler chooses the endpoint of a new connection: rr, wrr, lc, wlc, sh, dh, sed, nq or mh, as in ipvsadm(8). The
	// kernel needs its module, ip_vs_rr and so on. rr when unset.
	// +optional
	Scheduler Scheduler `json:"scheduler,omitempty"`

	// strictARP says whether the node answers ARP only for addresses that are on the interface that is asked, and not for
	// those of Services: the sysctls arp_ignore=1 and arp_announce=2. MetalLB in layer 2 mode needs it. Disabled when
	// unset, which leaves the sysctls alone.
	// +optional
	StrictARP Switch `json:"strictARP,omitempty"`

	// excludeCIDRs are networks in which somebody else makes virtual servers: an address of a Service that lies in one
	// gets none, and is told of in an event.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="each entry must be a CIDR such as 10.96.0.0/24"
	ExcludeCIDRs []string `json:"excludeCIDRs,omitempty"`

	// tcpTimeoutSeconds is how long IPVS remembers an idle TCP connection. The kernel's value, 900, when unset or 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	TCPTimeoutSeconds *int32 `json:"tcpTimeoutSeconds,omitempty"`

	// tcpFinTimeoutSeconds is how long IPVS remembers a TCP connection that was closed. The kernel's value, 120, when
	// unset or 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	TCPFinTimeoutSeconds *int32 `json:"tcpFinTimeoutSeconds,omitempty"`

	// udpTimeoutSeconds is how long IPVS remembers a UDP flow. The kernel's value, 300, when unset or 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	UDPTimeoutSeconds *int32 `json:"udpTimeoutSeconds,omitempty"`

	// drainTimeoutSeconds is how long connections may stay with an endpoint that left its Service, or with IPVS when the
	// node leaves mode IPVS, before they are cut. 3600 when unset; 0 cuts them at once.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	DrainTimeoutSeconds *int32 `json:"drainTimeoutSeconds,omitempty"`
}

// Probe is a TCP connection to a Service that a node tries.
type Probe struct {
	// name tells probes apart, and is how status speaks of them.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// service is the Service to connect to, at its cluster IP.
	// +required
	Service ProbeService `json:"service,omitzero"`
}

// ProbeService is a port of a Service.
type ProbeService struct {
	// namespace is the namespace of the Service.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// name is the name of the Service.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// port is the number of the Service port to connect to, by TCP.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// MasqueradePolicy says which connections through cluster IPs are masqueraded.
// +kubebuilder:validation:Enum=Auto;All
type MasqueradePolicy string

const (
	// MasqueradeAuto masquerades a connection only where the reply would not come back through this node otherwise.
	MasqueradeAuto MasqueradePolicy = "Auto"
	// MasqueradeAll masquerades every connection through a cluster IP, like kube-proxy's --masquerade-all.
	MasqueradeAll MasqueradePolicy = "All"
)

// Masquerade says which connections get the node's address as their source.
// +kubebuilder:validation:MinProperties=1
type Masquerade struct {
	// policy is Auto (only where the reply would not come back otherwise) or All (every connection through a
	// cluster IP). Auto when unset.
	// +optional
	Policy MasqueradePolicy `json:"policy,omitempty"`

	// bit is the bit of the packet mark that asks for masquerading, 0 to 31. 14 when unset, which is kube-proxy's.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=31
	Bit *int32 `json:"bit,omitempty"`

	// localTraffic says how packets of this node's own pods are recognised. By the pod CIDRs of the Node when unset.
	// +optional
	LocalTraffic LocalTraffic `json:"localTraffic,omitzero"`
}

// LocalTrafficDetection is a way to recognise packets sent by pods.
// +kubebuilder:validation:Enum=NodePodCIDR;ClusterCIDR;BridgeInterface;InterfaceNamePrefix
type LocalTrafficDetection string

const (
	// DetectNodePodCIDR takes packets from the pod CIDRs of the Node object as sent by local pods.
	DetectNodePodCIDR LocalTrafficDetection = "NodePodCIDR"
	// DetectClusterCIDR takes packets from any of clusterCIDRs as sent by pods.
	DetectClusterCIDR LocalTrafficDetection = "ClusterCIDR"
	// DetectBridgeInterface takes packets that come in through one bridge as sent by local pods.
	DetectBridgeInterface LocalTrafficDetection = "BridgeInterface"
	// DetectInterfaceNamePrefix takes packets that come in through interfaces of one name prefix as sent by local pods.
	DetectInterfaceNamePrefix LocalTrafficDetection = "InterfaceNamePrefix"
)

// LocalTraffic says how packets sent by pods are recognised.
// +kubebuilder:validation:XValidation:rule="self.detect == 'ClusterCIDR' ? has(self.clusterCIDRs) : !has(self.clusterCIDRs)",message="clusterCIDRs is required with detect: ClusterCIDR and has no meaning otherwise",fieldPath=".clusterCIDRs"
// +kubebuilder:validation:XValidation:rule="(self.detect == 'BridgeInterface' || self.detect == 'InterfaceNamePrefix') ? has(self.interface) : !has(self.interface)",message="interface is required with detect: BridgeInterface or InterfaceNamePrefix and has no meaning otherwise",fieldPath=".interface"
type LocalTraffic struct {
	// detect is the way to recognise packets sent by pods.
	// +required
	Detect LocalTrafficDetection `json:"detect,omitempty"`

	// clusterCIDRs are the networks of all pods of the cluster, with detect: ClusterCIDR.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="each entry must be a CIDR such as 10.244.0.0/16"
	ClusterCIDRs []string `json:"clusterCIDRs,omitempty"`

	// interface is the name of the bridge (detect: BridgeInterface) or the prefix of the names of the interfaces
	// (detect: InterfaceNamePrefix) through which packets of local pods come in.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+$`
	Interface string `json:"interface,omitempty"`
}

// NodePortAddressPrimary in nodePorts.addresses means the node's primary address of each family, as in Node.status.
const NodePortAddressPrimary = "Primary"

// NodePorts says where node ports are open.
// +kubebuilder:validation:MinProperties=1
type NodePorts struct {
	// addresses are the networks whose addresses on this node accept connections to node ports, or the one word
	// Primary for the address of each family in the Node object. All addresses of the node when unset. A family
	// that no entry names has no node ports.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="self.all(a, a == 'Primary' || isCIDR(a))",message="each entry must be a CIDR such as 192.168.0.0/16, or the list must be the one word Primary"
	// +kubebuilder:validation:XValidation:rule="!('Primary' in self) || self.size() == 1",message="Primary stands alone"
	Addresses []string `json:"addresses,omitempty"`

	// localhost says whether node ports are also open at 127.0.0.1, for processes of the node itself. It takes effect
	// where addresses is unset or has an entry in 127.0.0.0/8. Enabled when unset, as in kube-proxy. With it, the agent
	// sets the sysctl net.ipv4.conf.all.route_localnet and drops what comes to 127.0.0.0/8 from elsewhere. IPv6 has no
	// such thing.
	// +optional
	Localhost Switch `json:"localhost,omitempty"`
}

// Switch turns a behaviour on or off.
// +kubebuilder:validation:Enum=Enabled;Disabled
type Switch string

const (
	// SwitchEnabled turns it on.
	SwitchEnabled Switch = "Enabled"
	// SwitchDisabled turns it off.
	SwitchDisabled Switch = "Disabled"
)

// Conntrack sizes the kernel's table of connections and says how long it remembers them. The defaults are kube-proxy's.
// +kubebuilder:validation:MinProperties=1
type Conntrack struct {
	// maxPerCore is how many connections to make room for, for each CPU. 32768 when unset; 0 leaves the kernel's limit
	// as it is. The limit is never lowered, and maxPerCore never raises it above 1048576.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1048576
	MaxPerCore *int32 `json:"maxPerCore,omitempty"`

	// min is how many connections to make room for at least, however few CPUs there are. 131072 when unset; it has no
	// meaning where maxPerCore is 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=67108864
	Min *int32 `json:"min,omitempty"`

	// tcpEstablishedTimeoutSeconds is how long an idle TCP connection is remembered. 86400 when unset; 0 leaves the
	// kernel's value as it is.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	TCPEstablishedTimeoutSeconds *int32 `json:"tcpEstablishedTimeoutSeconds,omitempty"`

	// tcpCloseWaitTimeoutSeconds is how long a TCP connection is remembered that only one side has closed. 3600 when
	// unset; 0 leaves the kernel's value as it is.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	TCPCloseWaitTimeoutSeconds *int32 `json:"tcpCloseWaitTimeoutSeconds,omitempty"`

	// udpTimeoutSeconds is how long a UDP flow is remembered that was not answered yet. The kernel's value when unset
	// or 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	UDPTimeoutSeconds *int32 `json:"udpTimeoutSeconds,omitempty"`

	// udpStreamTimeoutSeconds is how long a UDP flow is remembered that was answered. The kernel's value when unset or
	// 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	UDPStreamTimeoutSeconds *int32 `json:"udpStreamTimeoutSeconds,omitempty"`

	// tcpBeLiberal says whether the kernel accepts packets outside the TCP window as part of a connection. Enabled sets
	// the sysctl nf_conntrack_tcp_be_liberal, and packets that conntrack finds invalid are then not dropped, as is
	// needed where replies take another way. Disabled when unset.
	// +optional
	TCPBeLiberal Switch `json:"tcpBeLiberal,omitempty"`
}

// Sync says how often the kernel is written and read back.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.minIntervalMilliseconds) || !has(self.fullIntervalSeconds) || self.minIntervalMilliseconds <= self.fullIntervalSeconds * 1000",message="minIntervalMilliseconds must not be longer than fullIntervalSeconds",fieldPath=".minIntervalMilliseconds"
type Sync struct {
	// minIntervalMilliseconds is the shortest time between the end of one write to the kernel and the start of the
	// next, in milliseconds. A lone change is always written at once. When unset the agent paces itself by what its
	// writes cost: never more than a fifth of the time is spent writing.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=60000
	MinIntervalMilliseconds *int32 `json:"minIntervalMilliseconds,omitempty"`

	// fullIntervalSeconds is the time between two full comparisons of the kernel with what should be there, in
	// seconds. Whatever differs is repaired and counted. 600 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=86400
	FullIntervalSeconds *int32 `json:"fullIntervalSeconds,omitempty"`

	// drift says what becomes of a rule, virtual server, set entry, route or kernel parameter of ours that somebody else
	// has changed or removed. Repair, which is also what happens when unset, puts it right at once and counts it.
	// ReportOnly leaves it and says so in condition Drifted, until it is repaired by hand or drift is Repair again; what
	// changes in the cluster is programmed all the same.
	// +optional
	Drift DriftPolicy `json:"drift,omitempty"`

	// holdBack says for how long a sudden loss of nearly everything is doubted before it is believed.
	// +optional
	HoldBack HoldBack `json:"holdBack,omitzero"`
}

// DriftPolicy says what becomes of a change that somebody else made to what the agent wrote.
// +kubebuilder:validation:Enum=Repair;ReportOnly
type DriftPolicy string

const (
	// DriftRepair puts right what somebody else changed.
	DriftRepair DriftPolicy = "Repair"
	// DriftReportOnly leaves it and tells.
	DriftReportOnly DriftPolicy = "ReportOnly"
)

// HoldBack says for how long a sudden loss is doubted. An API server that answers with an empty list by mistake, or a
// controller that deletes every EndpointSlice, must not take a cluster down at once: a node goes on with what it had,
// says so in condition HeldBack, and believes the loss when its time is over, or forgets it when what was lost comes back.
// Where there are fewer than 20 Services, or 20 endpoints, their loss is believed at once.
// +kubebuilder:validation:MinProperties=1
type HoldBack struct {
	// lossPercent is the share of all Services, or of all endpoints, whose loss within a few seconds is doubted, in
	// percent. 90 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	LossPercent int32 `json:"lossPercent,omitempty"`

	// seconds is how long it is doubted. 0 believes everything at once. 30 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	Seconds *int32 `json:"seconds,omitempty"`
}
