package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ServiceProxyNode is what one node is to run and what it does run. It has the name of its Node, and goes with it.
//
// The operator alone writes its spec, the agent on that node alone its status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=spn
// +kubebuilder:selectablefield:JSONPath=`.spec.configRef.name`
// +kubebuilder:printcolumn:name="Config",type=string,JSONPath=`.spec.configRef.name`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.status.mode`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Services",type=integer,JSONPath=`.status.sync.services`
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.status.sync.endpoints`
// +kubebuilder:printcolumn:name="Last-Sync",type=date,JSONPath=`.status.sync.lastSyncTime`
// +kubebuilder:printcolumn:name="Desired",type=string,priority=1,JSONPath=`.spec.revision`
// +kubebuilder:printcolumn:name="Applied",type=string,priority=1,JSONPath=`.status.appliedRevision`
// +kubebuilder:printcolumn:name="Backend",type=string,priority=1,JSONPath=`.status.capabilities.iptablesBackend`
// +kubebuilder:printcolumn:name="Rules",type=integer,priority=1,JSONPath=`.status.sync.rules`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ServiceProxyNode struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the operator assigned to the node.
	// +required
	Spec ServiceProxyNodeSpec `json:"spec,omitzero"`

	// status is what the agent on the node reports.
	// +optional
	// +default={"observedGeneration":-1}
	Status ServiceProxyNodeStatus `json:"status,omitzero"`
}

// ServiceProxyNodeSpec is an assignment: the settings a node is to run, in full.
type ServiceProxyNodeSpec struct {
	// configRef names the ServiceProxyConfig that the settings come from.
	// +required
	ConfigRef ConfigReference `json:"configRef,omitzero"`

	// revision names the settings: the config's name and a hash over them. Two nodes of one revision run the same.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=80
	Revision string `json:"revision,omitempty"`

	// action is what the agent is to do: Apply the settings, or Release the node, which removes what the agent ever wrote
	// to its kernel. Apply when unset.
	// +optional
	Action Action `json:"action,omitempty"`

	ProxySettings `json:",inline"`
}

// ConfigReference names a generation of a ServiceProxyConfig.
type ConfigReference struct {
	// name is the name of the ServiceProxyConfig.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// generation is the metadata.generation of the config that the settings were taken from.
	// +required
	// +kubebuilder:validation:Minimum=0
	Generation *int64 `json:"generation,omitempty"`
}

// ServiceProxyNodeStatus is what the agent on a node reports.
type ServiceProxyNodeStatus struct {
	// observedGeneration is the metadata.generation that this status speaks of; -1 before the agent has looked.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// appliedRevision names the settings that the kernel runs now.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	AppliedRevision string `json:"appliedRevision,omitempty"`

	// failedRevision names settings that the agent took back because the kernel refused them or a probe failed with them.
	// Condition RolledBack says why. They are not tried again before the spec changes.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	FailedRevision string `json:"failedRevision,omitempty"`

	// mode is the mode that the kernel runs now.
	// +optional
	Mode Mode `json:"mode,omitempty"`

	// draining is the number of connections that are still carried by a mode that the node has left. They go on until
	// they end or spec.ipvs.drainTimeoutSeconds are over. Unset when no mode is being left.
	// +optional
	Draining *int32 `json:"draining,omitempty"`

	// capabilities are what the agent found the node able to do.
	// +optional
	Capabilities Capabilities `json:"capabilities,omitzero"`

	// agentVersion is the version of the agent.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	AgentVersion string `json:"agentVersion,omitempty"`

	// sync says what the kernel holds and when it was last written. It is written when it changed, seldom and never
	// by an idle node; the metrics of the agent are exact at any time.
	// +optional
	Sync *SyncStatus `json:"sync,omitempty"`

	// conditions are Ready, Accepted, Programmed, RolledBack, ForeignProxy and, while it lasts, Draining.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPTablesBackend is an implementation of iptables.
// +kubebuilder:validation:Enum=nft;legacy
type IPTablesBackend string

const (
	// BackendNFT is iptables on nf_tables.
	BackendNFT IPTablesBackend = "nft"
	// BackendLegacy is iptables on the kernel's x_tables sockets.
	BackendLegacy IPTablesBackend = "legacy"
)

// Capabilities are what an agent found its node able to do.
// +kubebuilder:validation:MinProperties=1
type Capabilities struct {
	// iptablesBackend is the implementation of iptables that this node uses; unset when it has none that works.
	// +optional
	IPTablesBackend IPTablesBackend `json:"iptablesBackend,omitempty"`

	// ipvs says whether this node can run mode IPVS; the agent finds out before it is asked to. Unset when it did not look.
	// +optional
	IPVS Capability `json:"ipvs,omitempty"`
}

// Capability says whether a node can do something.
// +kubebuilder:validation:Enum=Available;Unavailable
type Capability string

const (
	// CapabilityAvailable says that it can.
	CapabilityAvailable Capability = "Available"
	// CapabilityUnavailable says that it cannot.
	CapabilityUnavailable Capability = "Unavailable"
)

// SyncStatus says what the kernel of a node holds and when it was last written.
type SyncStatus struct {
	// services is the number of Service ports programmed, in all families.
	// +optional
	Services *int32 `json:"services,omitempty"`

	// endpoints is the number of endpoints that these Service ports lead to, in all families.
	// +optional
	Endpoints *int32 `json:"endpoints,omitempty"`

	// rules is the number of rules in the kernel, in all tables and families.
	// +optional
	Rules *int32 `json:"rules,omitempty"`

	// lastSyncTime is when the kernel was last written. It is no heartbeat: nothing is written where nothing changes.
	// +optional
	LastSyncTime metav1.Time `json:"lastSyncTime,omitzero"`

	// programmingLatencyMilliseconds is the time from the last change that was seen to the kernel following it.
	// +optional
	ProgrammingLatencyMilliseconds *int32 `json:"programmingLatencyMilliseconds,omitempty"`

	// repairs counts, since the agent started, the chains that were found changed by someone else and put right.
	// +optional
	Repairs *int32 `json:"repairs,omitempty"`

	// lastError is the last error of a sync, until one succeeds.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	LastError string `json:"lastError,omitempty"`
}

// ServiceProxyNodeList is a list of ServiceProxyNodes.
// +kubebuilder:object:root=true
type ServiceProxyNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceProxyNode `json:"items"`
}
