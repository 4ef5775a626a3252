package v1alpha1

import "k8s.io/apimachinery/pkg/util/intstr"

// AnnotationRetry on a ServiceProxyConfig tries a halted rollout again whenever its value changes; a time is a good value.
const AnnotationRetry = "serviceproxy.io/retry"

// Rollout says how a change of the settings reaches the nodes of a pool: canary nodes first, then batches, zone by zone.
// Changing it starts nothing.
// +kubebuilder:validation:MinProperties=1
type Rollout struct {
	// state is Active, or Paused to give no further node the new settings. Nodes that have them keep them. Active when
	// unset.
	// +optional
	State RolloutState `json:"state,omitempty"`

	// maxUnavailable is how many nodes of the pool may be on their way, failed or not Ready at one time for another to be
	// given new settings: a number, or a percentage of the pool rounded up.
	// +optional
	// +default="10%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=4
	// +kubebuilder:validation:XValidation:rule="type(self) == string ? self.matches('^([1-9][0-9]?|100)%$') : self >= 1",message="must be a number of nodes from 1 or a percentage from 1% to 100%"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// canary are the nodes that get new settings first. None when unset.
	// +optional
	Canary Canary `json:"canary,omitzero"`

	// minReadySeconds is how long a node has to be in sync with new settings before it counts as available. 10 when
	// unset.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	MinReadySeconds *int32 `json:"minReadySeconds,omitempty"`

	// nodeTimeoutSeconds is how long a node may take to be in sync with new settings before it counts as failed, and how
	// long a Node may be not Ready before the rollout stops waiting for it. 300 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=30
	// +kubebuilder:validation:Maximum=3600
	NodeTimeoutSeconds *int32 `json:"nodeTimeoutSeconds,omitempty"`

	// failureThreshold is how many failed nodes stop the rollout: a number, or a percentage of the pool rounded up.
	// +optional
	// +default=1
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=4
	// +kubebuilder:validation:XValidation:rule="type(self) == string ? self.matches('^([1-9][0-9]?|100)%$') : self >= 1",message="must be a number of nodes from 1 or a percentage from 1% to 100%"
	FailureThreshold *intstr.IntOrString `json:"failureThreshold,omitempty"`

	// onFailure is what a stopped rollout does: Halt leaves nodes that took the new settings on them, Rollback takes them
	// back to the settings before, at the same pace. Nodes that failed are back already. Halt when unset.
	// +optional
	OnFailure RolloutOnFailure `json:"onFailure,omitempty"`

	// nodeChangeDelaySeconds is how long a node must have been matched by another config before it changes pools, so that
	// a label that comes and goes moves nothing. 30 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	NodeChangeDelaySeconds *int32 `json:"nodeChangeDelaySeconds,omitempty"`
}

// RolloutState says whether a rollout goes on.
// +kubebuilder:validation:Enum=Active;Paused
type RolloutState string

const (
	// RolloutActive goes on.
	RolloutActive RolloutState = "Active"
	// RolloutPaused gives no further node new settings.
	RolloutPaused RolloutState = "Paused"
)

// RolloutOnFailure says what a rollout does that was stopped because too many nodes failed.
// +kubebuilder:validation:Enum=Halt;Rollback
type RolloutOnFailure string

const (
	// OnFailureHalt leaves nodes as they are.
	OnFailureHalt RolloutOnFailure = "Halt"
	// OnFailureRollback takes nodes back to the settings before.
	OnFailureRollback RolloutOnFailure = "Rollback"
)

// Canary are the nodes that get new settings first.
type Canary struct {
	// nodes is how many canary nodes there are, spread over zones.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Nodes int32 `json:"nodes,omitempty"`

	// nodeSelector restricts the canary nodes to some of the pool. All of the pool when unset.
	// +optional
	NodeSelector *NodeSelector `json:"nodeSelector,omitempty"` //nolint:kubeapilinter // {} is every node, as in spec.nodeSelector

	// bakeSeconds is how long all canary nodes have to be in sync before other nodes follow. 60 when unset.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	BakeSeconds *int32 `json:"bakeSeconds,omitempty"`
}

// ReleasePolicy says what becomes of the rules on a node that no config selects any more.
// +kubebuilder:validation:Enum=Retain;Cleanup
type ReleasePolicy string

const (
	// ReleaseRetain leaves the rules and keeps them in step with Services.
	ReleaseRetain ReleasePolicy = "Retain"
	// ReleaseCleanup removes them.
	ReleaseCleanup ReleasePolicy = "Cleanup"
)

// Action says what an agent is to do with the settings of its ServiceProxyNode.
// +kubebuilder:validation:Enum=Apply;Release
type Action string

const (
	// ActionApply runs them.
	ActionApply Action = "Apply"
	// ActionRelease removes every rule of the agent from the node.
	ActionRelease Action = "Release"
)
