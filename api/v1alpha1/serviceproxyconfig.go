package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ServiceProxyConfig is one pool of nodes and how Services are programmed on them.
//
// Where several configs select a node, the one with the highest priority has it. Configs are never merged.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=spc
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes.assigned`
// +kubebuilder:printcolumn:name="Updated",type=integer,JSONPath=`.status.nodes.updated`
// +kubebuilder:printcolumn:name="In-Sync",type=integer,JSONPath=`.status.nodes.ready`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name is used as a label value and must not be longer than 63 characters"
type ServiceProxyConfig struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state of the pool.
	// +required
	Spec ServiceProxyConfigSpec `json:"spec,omitzero"`

	// status is what the operator observed of the pool.
	// +optional
	// +default={"observedGeneration":-1}
	Status ServiceProxyConfigStatus `json:"status,omitzero"`
}

// ServiceProxyConfigSpec selects nodes and says how Services are programmed on them.
type ServiceProxyConfigSpec struct {
	// nodeSelector selects the nodes of this pool by their labels. An empty selector ({}) selects every node.
	// +required
	NodeSelector *NodeSelector `json:"nodeSelector,omitempty"`

	// priority decides between several configs that select the same node: the highest has it. 0 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Priority *int32 `json:"priority,omitempty"`

	ProxySettings `json:",inline"`

	// rollout says how a change of the settings reaches the nodes of the pool.
	// +optional
	// +default={"maxUnavailable":"10%","failureThreshold":1}
	Rollout Rollout `json:"rollout,omitzero"`

	// onRelease says what becomes of the rules on a node that no config selects any more: Retain leaves them and keeps
	// them in step with Services, Cleanup removes them. Retain when unset.
	// +optional
	OnRelease ReleasePolicy `json:"onRelease,omitempty"`

	// revisionHistoryLimit is how many old revisions of the settings are kept as ControllerRevisions, so that there is
	// something to roll back to. 5 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	RevisionHistoryLimit int32 `json:"revisionHistoryLimit,omitempty"`
}

// ServiceProxyConfigStatus is what the operator observed of a pool.
type ServiceProxyConfigStatus struct {
	// observedGeneration is the metadata.generation that this status speaks of; -1 before the operator has looked.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// currentRevision names the settings that the last completed rollout left on the nodes: what a node that joins gets
	// while another rollout is under way, and what a rollback returns to.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	CurrentRevision string `json:"currentRevision,omitempty"`

	// updateRevision names the settings of the observed generation; a node runs them when its appliedRevision is the
	// same. It is currentRevision when no rollout is under way.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	UpdateRevision string `json:"updateRevision,omitempty"`

	// halted remembers a rollout that was stopped because too many nodes failed with its revision. It is not tried again
	// until the settings change or the annotation serviceproxy.io/retry does.
	// +optional
	Halted *HaltedRollout `json:"halted,omitempty"`

	// nodes counts the nodes of the pool.
	// +optional
	Nodes *NodeCounts `json:"nodes,omitempty"`

	// failedNodes are the first ten nodes, by name, that could not be programmed, and why.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10
	FailedNodes []FailedNode `json:"failedNodes,omitempty"`

	// conditions are Ready, Accepted, Conflicted, Reconciling and Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// HaltedRollout is a rollout that was stopped.
type HaltedRollout struct {
	// revision names the settings that failed.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=80
	Revision string `json:"revision,omitempty"`

	// retry is the value that the annotation serviceproxy.io/retry had when the rollout was stopped.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Retry string `json:"retry,omitempty"`

	// onFailure is what was done: Halt or Rollback.
	// +optional
	OnFailure RolloutOnFailure `json:"onFailure,omitempty"`

	// message names the nodes and why they failed, as of when the rollout was stopped.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// NodeCounts counts the nodes of a pool.
type NodeCounts struct {
	// matched is the number of nodes that the node selector selects.
	// +optional
	Matched *int32 `json:"matched,omitempty"`

	// overridden is the number of matched nodes that a config of higher priority has.
	// +optional
	Overridden *int32 `json:"overridden,omitempty"`

	// conflicted is the number of matched nodes that another config of the same priority also selects.
	// +optional
	Conflicted *int32 `json:"conflicted,omitempty"`

	// assigned is the number of nodes that have this config.
	// +optional
	Assigned *int32 `json:"assigned,omitempty"`

	// updated is the number of assigned nodes whose kernel runs the settings of the observed generation.
	// +optional
	Updated *int32 `json:"updated,omitempty"`

	// ready is the number of updated nodes that are in sync.
	// +optional
	Ready *int32 `json:"ready,omitempty"`

	// unavailable is the number of assigned nodes whose Node is not Ready. They never hold back Ready.
	// +optional
	Unavailable *int32 `json:"unavailable,omitempty"`

	// failed is the number of assigned nodes that reported a failure.
	// +optional
	Failed *int32 `json:"failed,omitempty"`
}

// FailedNode is a node that could not be programmed, and why.
type FailedNode struct {
	// name is the name of the Node.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// reason is the reason of the condition that is not as it should be.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason,omitempty"`

	// message is the message of that condition, shortened.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// ServiceProxyConfigList is a list of ServiceProxyConfigs.
// +kubebuilder:object:root=true
type ServiceProxyConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceProxyConfig `json:"items"`
}
