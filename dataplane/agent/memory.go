package agent

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
)

// memory is what outlives the agent: which settings were good last, and which were taken back.
type memory struct {
	// folder is where it is kept; empty for nowhere.
	folder laststate.Folder
	// good and failed are what an agent before this one left, until they are of no more use; nil when there is nothing.
	good   *Assignment
	failed *laststate.Failed
	// applied and rolledBack are what was written last.
	applied    *Assignment
	rolledBack *rollback
	// problem is why the last write failed.
	problem string
}

// recall reads what an agent before this one left. What cannot be read is told, and as good as not there.
func (m *memory) recall(ctx context.Context) {
	if m.folder == "" {
		return
	}
	left, err := m.folder.Settings()
	if err != nil {
		klog.FromContext(ctx).Error(err, "Starting without the settings that were good last")
	}
	if left == nil || left.Good == nil {
		return
	}
	m.good, m.failed = recalled(left.Good), left.Failed
}

func recalled(a *laststate.Assigned) *Assignment {
	return &Assignment{UID: a.UID, Generation: a.Generation, Revision: a.Revision, Settings: a.Settings}
}

func remembered(a *Assignment) laststate.Assigned {
	return laststate.Assigned{UID: a.UID, Generation: a.Generation, Revision: a.Revision, Settings: a.Settings}
}

// keep writes what is to be known after a restart, where that has changed.
func (m *memory) keep(ctx context.Context, s *state) {
	if m.folder == "" || s.applied == nil || s.unconfirmed || s.applied == m.applied && s.rolledBack == m.rolledBack {
		return
	}
	good := remembered(s.applied)
	content := laststate.Settings{Good: &good}
	if r := s.rolledBack; r != nil {
		content.Failed = &laststate.Failed{Assigned: remembered(r.assignment), Reason: r.reason, Message: r.message}
	}
	m.tell(ctx, m.folder.SaveSettings(&content))
	if m.problem == "" {
		m.applied, m.rolledBack = s.applied, s.rolledBack
	}
}

// forget removes everything.
func (m *memory) forget(ctx context.Context) {
	m.good, m.failed, m.applied, m.rolledBack = nil, nil, nil, nil
	if m.folder != "" {
		m.tell(ctx, m.folder.RemoveSettings())
	}
}

// tell notes whether something could be written, and logs it once if not.
func (m *memory) tell(ctx context.Context, err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != m.problem {
		klog.FromContext(ctx).Error(err, "Going on without a memory")
	}
	m.problem = problem
}

// resume returns what to carry out. After a start that is at first the settings that were good last, so that there is a way
// back from others, and something to run while the API server is away.
func (l *loop) resume(assigned *Assignment) *Assignment {
	m := &l.memory
	if assigned != nil && m.failed != nil {
		// In stand-alone mode, where nobody else can ask for another attempt, a restart does.
		if f := m.failed; f.UID != "" && f.Generation == assigned.Generation && sameSettings(recalled(&f.Assigned), assigned) {
			l.state.rolledBack = &rollback{assigned, refusal{f.Reason, f.Message}}
		}
		m.failed = nil
	}
	if assigned != nil && (assigned.Release || l.course != nil || m.good != nil && sameSettings(m.good, assigned)) {
		m.good = nil
	}
	if m.good != nil {
		return m.good
	}
	return assigned
}

// distrust gives up the settings that were good once, because they cannot be carried out any more.
func (l *loop) distrust() {
	l.memory.good, l.trial, l.state.rolledBack = nil, nil, nil
}
