package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
)

// state is what the agent knows of itself after a step of the loop. Status, health and metrics are made from it.
type state struct {
	assignment *Assignment
	// unconfirmed says that nobody but our own memory knows of the assignment, so that there is no object to report on.
	unconfirmed bool
	// released says that everything of ours is gone from the node, as was asked for.
	released bool
	// applied is the assignment that the kernel runs; nil before the first sync.
	applied *Assignment
	// refused says why the assignment cannot be carried out here: a reason of condition Accepted and a message.
	refused *refusal
	// failed is why the last write did not succeed.
	failed error
	// rolledBack says which assignment was taken back and why; nil when none was.
	rolledBack *rollback
	backend    v1alpha1.IPTablesBackend
	ipvs       v1alpha1.Capability
	// draining is how many connections are still carried by a mode that the node has left.
	draining int

	services, endpoints, rules int
	noLocal                    noLocal
	repairs                    int
	// drifted is what somebody else has changed and is left so.
	drifted  []string
	lastSync time.Time
	latency  time.Duration
	// disputes are the addresses that several Services claim, leftOut those that the mode could not program, and
	// refusedByKernel the parameters that could not be set.
	disputes, leftOut, refusedByKernel []string
	// forgetful says why a restart would not know what runs now; empty when it would.
	forgetful string
	// remembered is when the API server said what the kernel is programmed from, where it has not said anything since the
	// agent started; zero where it has.
	remembered time.Time
	// held is what was lost suddenly and is kept as it was; nil when nothing is.
	held *catalog.Held
	// broken are the ways into Services that do not work although their endpoints do.
	broken []string
	// foreign is what was found of another Service proxy; nil before it was looked for.
	foreign *foreign
}

// refusal is why an assignment cannot be carried out on this node.
type refusal struct{ reason, message string }

// rollback is an assignment that was taken back, and why.
type rollback struct {
	assignment *Assignment
	refusal
}

// gaveUp says whether an assignment was taken back.
func (s *state) gaveUp(a *Assignment) bool {
	return s.rolledBack != nil && s.rolledBack.assignment == a
}

// noteSupport notes whether the node can run a mode that has to be found out.
func (s *state) noteSupport(mode v1alpha1.Mode, refused *refusal) {
	switch {
	case mode != v1alpha1.ModeIPVS:
	case refused == nil:
		s.ipvs = v1alpha1.CapabilityAvailable
	default:
		s.ipvs = v1alpha1.CapabilityUnavailable
	}
}

// maxMessage keeps messages and errors in status short enough to be read.
const maxMessage = 1000

func shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return message[:maxMessage-3] + "..."
}

// status is the status to report. Conditions keep their transition times from the previous status.
func (s *state) status(previous *v1alpha1.ServiceProxyNodeStatus, version string, now time.Time) v1alpha1.ServiceProxyNodeStatus {
	status := v1alpha1.ServiceProxyNodeStatus{
		ObservedGeneration: s.assignment.Generation,
		AgentVersion:       version,
		Capabilities:       v1alpha1.Capabilities{IPTablesBackend: s.backend, IPVS: s.ipvs},
		Conditions:         slices.Clone(previous.Conditions),
	}
	if s.applied != nil {
		status.AppliedRevision = s.applied.Revision
		status.Mode = s.applied.Settings.Mode
	}
	if s.applied != nil || s.failed != nil {
		status.Sync = s.sync()
	}
	if s.draining > 0 {
		status.Draining = new(int32(s.draining))
	} else {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionDraining)
	}
	if s.held == nil {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionHeldBack)
	}
	if len(s.drifted) == 0 {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionDrifted)
	}
	if s.rolledBack != nil {
		status.FailedRevision = s.rolledBack.assignment.Revision
	}
	for _, c := range s.conditions() {
		c.ObservedGeneration = s.assignment.Generation
		c.LastTransitionTime = metav1.NewTime(now)
		meta.SetStatusCondition(&status.Conditions, c)
	}
	return status
}

func (s *state) sync() *v1alpha1.SyncStatus {
	number := func(n int) *int32 { v := int32(n); return &v }
	sync := &v1alpha1.SyncStatus{
		Services:  number(s.services),
		Endpoints: number(s.endpoints),
		Rules:     number(s.rules),
		Repairs:   number(s.repairs),
	}
	if !s.lastSync.IsZero() {
		sync.LastSyncTime = metav1.NewTime(s.lastSync.Truncate(time.Second))
		sync.ProgrammingLatencyMilliseconds = number(int(s.latency.Milliseconds()))
	}
	if s.failed != nil {
		sync.LastError = shorten(s.failed.Error())
	}
	return sync
}

// conditions are Accepted, Programmed and Ready, which sums the other two up.
func (s *state) conditions() []metav1.Condition {
	accepted := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonSupported, Message: "this node can do what its settings ask for"}
	programmed := metav1.Condition{Type: v1alpha1.ConditionProgrammed}
	switch {
	case s.refused != nil:
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, s.refused.reason, shorten(s.refused.message)
		programmed.Status, programmed.Reason = metav1.ConditionFalse, v1alpha1.ReasonNotAccepted
		programmed.Message = "nothing was written for these settings; " + s.running()
	case s.gaveUp(s.assignment):
		programmed.Status, programmed.Reason = metav1.ConditionFalse, s.rolledBack.reason
		programmed.Message = shorten("revision " + s.assignment.Revision + " was taken back: " + s.rolledBack.message + "; " + s.running())
	case s.failed != nil:
		programmed.Status, programmed.Reason = metav1.ConditionFalse, v1alpha1.ReasonApplyFailed
		programmed.Message = shorten(s.failed.Error())
	case s.assignment.Release:
		programmed.Status, programmed.Reason = metav1.ConditionFalse, v1alpha1.ReasonReleased
		programmed.Message = "no config selects this node any more; nothing of this agent is left on it"
		if !s.released {
			programmed.Status, programmed.Reason = metav1.ConditionUnknown, v1alpha1.ReasonPending
			programmed.Message = "no config selects this node any more; it is given back when the connections through IPVS have ended"
		}
	case s.applied != s.assignment:
		programmed.Status, programmed.Reason = metav1.ConditionUnknown, v1alpha1.ReasonPending
		programmed.Message = "the first sync of these settings is not complete; " + s.running()
	default:
		programmed.Status, programmed.Reason = metav1.ConditionTrue, v1alpha1.ReasonSynced
		programmed.Message = "the kernel holds what Services and EndpointSlices say"
		if !s.remembered.IsZero() {
			programmed.Message = "the kernel holds what Services and EndpointSlices said at " + s.remembered.UTC().Format(time.RFC3339) +
				", because the API server has not listed them since this agent started"
		}
		if n := len(s.disputes); n > 0 {
			programmed.Message += fmt.Sprintf("; %d addresses are claimed by several Services: %s", n, s.disputes[0])
		}
		if n := len(s.leftOut); n > 0 {
			programmed.Message += fmt.Sprintf("; %d addresses are left out: %s", n, s.leftOut[0])
		}
		if len(s.refusedByKernel) > 0 {
			programmed.Message += "; parameters of the kernel that could not be set: " + strings.Join(s.refusedByKernel, "; ")
		}
		if s.forgetful != "" {
			programmed.Message += "; a restart of the agent would not know the way back: " + s.forgetful
		}
		programmed.Message = shorten(programmed.Message)
	}
	ready := programmed
	if s.released {
		ready.Status = metav1.ConditionTrue
	}
	if accepted.Status != metav1.ConditionTrue {
		ready = accepted
	}
	if len(s.broken) > 0 && ready.Status == metav1.ConditionTrue {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1alpha1.ReasonDataPathBroken
		ready.Message = shorten("no connection from this node to " + strings.Join(s.broken, "; ") +
			", although every endpoint answers when it is asked directly; look for a firewall, a route or a kernel parameter in the way")
	}
	ready.Type = v1alpha1.ConditionReady
	all := append([]metav1.Condition{ready, accepted, programmed, s.rolledBackCondition()}, s.drainingCondition()...)
	all = append(all, s.driftedCondition()...)
	all = append(all, s.heldBackCondition()...)
	if s.foreign != nil {
		all = append(all, s.foreign.condition())
	}
	return all
}

func (s *state) running() string {
	if s.applied == nil {
		return "rules from before this agent started, if any, are still there"
	}
	return "revision " + s.applied.Revision + " goes on running"
}

func (s *state) rolledBackCondition() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionRolledBack, Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonNotRolledBack, Message: "no settings had to be taken back"}
	if s.gaveUp(s.assignment) {
		c.Status, c.Reason = metav1.ConditionTrue, s.rolledBack.reason
		c.Message = shorten("revision " + s.assignment.Revision + ": " + s.rolledBack.message)
	}
	return c
}

// drainingCondition is there while connections of another mode are.
func (s *state) drainingCondition() []metav1.Condition {
	if s.draining == 0 {
		return nil
	}
	if s.applied == nil {
		return []metav1.Condition{{Type: v1alpha1.ConditionDraining, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonConnectionsDraining,
			Message: fmt.Sprintf("%d connections began in a mode that this node has left and go on in it until they end", s.draining)}}
	}
	return []metav1.Condition{{Type: v1alpha1.ConditionDraining, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonConnectionsDraining,
		Message: fmt.Sprintf("%d connections began in another mode than %s and go on in it until they end", s.draining, s.applied.Settings.Mode)}}
}
