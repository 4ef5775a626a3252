package v1alpha1

// LabelConfig is set by the operator on every ServiceProxyNode; its value is the name of the config the node has.
const LabelConfig = "serviceproxy.io/config"

// Condition types of both kinds. Every condition is set from the first look on, with observedGeneration; Reconciling
// and Stalled are the abnormal-true conditions of kstatus and are there only while they are true.
const (
	// ConditionReady is the one to wait for. On a config it is True when every assigned node whose Node is Ready runs
	// the observed generation and is in sync, or when there is no node. On a node it is True when it is Accepted and
	// Programmed.
	ConditionReady = "Ready"

	// ConditionAccepted says that the spec can be carried out at all: on a config that it is valid, on a node that
	// its kernel and tools can do it.
	ConditionAccepted = "Accepted"

	// ConditionProgrammed is a condition of nodes: True when the kernel holds what Services and EndpointSlices say.
	ConditionProgrammed = "Programmed"

	// ConditionConflicted is a condition of configs: True when another config of the same priority selects one of
	// its nodes. The config that has the node keeps it; if none has it, the lexically first name gets it.
	ConditionConflicted = "Conflicted"

	// ConditionRolledBack is a condition of nodes: True when the agent took the assigned settings back and runs those it
	// had before.
	ConditionRolledBack = "RolledBack"

	// ConditionForeignProxy is a condition of nodes: True when the rules of another Service proxy are on the node.
	ConditionForeignProxy = "ForeignProxy"

	// ConditionDraining is a condition of nodes. It is there, and True, while connections that were opened in a mode that
	// the node has left are still carried by it.
	ConditionDraining = "Draining"

	// ConditionDrifted is a condition of nodes. It is there, and True, while something that the agent wrote is not as it was
	// written and is left so, because spec.sync.drift is ReportOnly.
	ConditionDrifted = "Drifted"

	// ConditionHeldBack is a condition of nodes. It is there, and True, while a sudden loss of nearly all Services or
	// endpoints is doubted (spec.sync.holdBack).
	ConditionHeldBack = "HeldBack"

	// ConditionReconciling is there, and True, while nodes are on their way to the observed generation.
	ConditionReconciling = "Reconciling"

	// ConditionStalled is there, and True, when somebody has to act before the config can become Ready.
	ConditionStalled = "Stalled"
)

// Reasons of a ServiceProxyConfig's conditions.
const (
	// ReasonAllNodesReady (Ready=True): every assigned node whose Node is Ready is in sync.
	ReasonAllNodesReady = "AllNodesReady"
	// ReasonNoMatchingNodes (Ready=True): no node has this config, so there is nothing to do.
	ReasonNoMatchingNodes = "NoMatchingNodes"
	// ReasonRollingOut (Ready=False, Reconciling=True): nodes are on their way to the observed generation.
	ReasonRollingOut = "RollingOut"
	// ReasonCanary (Reconciling=True): the canary nodes are on their way, or have to prove themselves first.
	ReasonCanary = "Canary"
	// ReasonWaitingForNodes (Reconciling=True): no further node is given the settings before others are available.
	ReasonWaitingForNodes = "WaitingForNodes"
	// ReasonRolloutPaused (Ready=False): spec.rollout.state is Paused and not every node has the settings.
	ReasonRolloutPaused = "RolloutPaused"
	// ReasonRolloutHalted (Ready=False, Stalled=True): too many nodes failed with the settings; no further node gets them
	// until they change or the annotation serviceproxy.io/retry does.
	ReasonRolloutHalted = "RolloutHalted"
	// ReasonRolledBack (Ready=False, Stalled=True): too many nodes failed with the settings, and the pool is back, or on
	// its way back, on those before.
	ReasonRolledBack = "RolledBack"
	// ReasonGuardNotEnforced (Ready=False, Stalled=True): the policy that keeps each agent to its own node's status is not
	// in force, so no agent is started.
	ReasonGuardNotEnforced = "GuardNotEnforced"
	// ReasonNodesFailed (Ready=False, Stalled=True): nodes reported a failure; failedNodes names them.
	ReasonNodesFailed = "NodesFailed"
	// ReasonTimedOut (in failedNodes): the node was not in sync with what it was given within nodeTimeoutSeconds.
	ReasonTimedOut = "TimedOut"
	// ReasonNotAccepted (Ready=False, Stalled=True; on a node also Programmed=False): the spec cannot be carried
	// out; Accepted says why.
	ReasonNotAccepted = "NotAccepted"
	// ReasonValid (Accepted=True): the spec is valid.
	ReasonValid = "Valid"
	// ReasonInvalidSelector (Accepted=False): spec.nodeSelector cannot be parsed.
	ReasonInvalidSelector = "InvalidSelector"
	// ReasonEqualPriorityOverlap (Conflicted=True): another config of the same priority selects the same nodes.
	ReasonEqualPriorityOverlap = "EqualPriorityOverlap"
	// ReasonNoOverlap (Conflicted=False): no other config of the same priority selects these nodes.
	ReasonNoOverlap = "NoOverlap"
	// ReasonConflicted (Ready=False, Stalled=True): nodes it selects stay with another config of the same priority.
	ReasonConflicted = "Conflicted"
)

// Reasons of a ServiceProxyNode's conditions.
const (
	// ReasonSynced (Ready=True, Programmed=True): the kernel holds what Services and EndpointSlices say.
	ReasonSynced = "Synced"
	// ReasonSupported (Accepted=True): the node can do what the settings ask for.
	ReasonSupported = "Supported"
	// ReasonBackendUnavailable (Accepted=False): no working iptables was found; install it, or give the agent the
	// capability NET_ADMIN.
	ReasonBackendUnavailable = "BackendUnavailable"
	// ReasonKernelModuleMissing (Accepted=False): mode IPVS needs a kernel module that is not there; the message names it.
	ReasonKernelModuleMissing = "KernelModuleMissing"
	// ReasonUnsupportedMode (Accepted=False): this agent does not know the mode; upgrade the agent. What ran before
	// goes on running.
	ReasonUnsupportedMode = "UnsupportedMode"
	// ReasonInvalidSettings (Accepted=False): the settings cannot be carried out on this node; the message names the
	// field. What ran before goes on running.
	ReasonInvalidSettings = "InvalidSettings"
	// ReasonPending (Programmed=Unknown): the agent has not completed its first sync.
	ReasonPending = "Pending"
	// ReasonApplyFailed (Programmed=False): the kernel refused a write; the message says which and why.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonVerifyFailed (Programmed=False, RolledBack=True): what was written could not be read back from the kernel.
	ReasonVerifyFailed = "VerifyFailed"
	// ReasonProbeFailed (Programmed=False, RolledBack=True): a probe that worked before the settings were taken over did
	// not work after; the message names it.
	ReasonProbeFailed = "ProbeFailed"
	// ReasonNotRolledBack (RolledBack=False): the node runs what it was assigned, or is on its way to it.
	ReasonNotRolledBack = "NotRolledBack"
	// ReasonReleased (Ready=True, Programmed=False): no config selects the node any more, and every rule is gone.
	ReasonReleased = "Released"
	// ReasonKubeProxyRulesFound (ForeignProxy=True): rules of kube-proxy are on the node; the message says whether it runs.
	ReasonKubeProxyRulesFound = "KubeProxyRulesFound"
	// ReasonNoForeignRules (ForeignProxy=False): no rules of another Service proxy were found.
	ReasonNoForeignRules = "NoForeignRules"
	// ReasonConnectionsDraining (Draining=True): the message says how many connections there are, and of which mode.
	ReasonConnectionsDraining = "ConnectionsDraining"
	// ReasonChangedByOthers (Drifted=True): the message says what is not as it was written.
	ReasonChangedByOthers = "ChangedByOthers"
	// ReasonSuddenLoss (HeldBack=True): the message says what was lost, and when that will be believed.
	ReasonSuddenLoss = "SuddenLoss"
	// ReasonDataPathBroken (Ready=False): a probe that worked does not work any more, although the kernel holds what it
	// should; the message names it.
	ReasonDataPathBroken = "DataPathBroken"
)
