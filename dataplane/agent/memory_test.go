package agent

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
	"github.com/serviceproxy/service-proxy-operator/dataplane/probe"
)

func assignment(generation int64, revision string) *Assignment {
	return &Assignment{UID: "1", Generation: generation, Revision: revision, Settings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables}}
}

// restarted is an agent that starts where another one has stopped with a state.
func restarted(t *testing.T, folder laststate.Folder, before state) *loop {
	t.Helper()
	m := memory{folder: folder}
	m.keep(t.Context(), &before)
	if m.problem != "" {
		t.Fatal(m.problem)
	}
	l := &loop{memory: memory{folder: folder}}
	l.memory.recall(t.Context())
	return l
}

func TestAfterARestart(t *testing.T) {
	good, bad := assignment(1, "good"), assignment(2, "bad")
	failed := &rollback{bad, refusal{v1alpha1.ReasonProbeFailed, "the API server did not answer"}}
	tests := map[string]struct {
		before   state
		assigned *Assignment
		runs     string // the revision that is carried out first
		gaveUp   bool
	}{
		"the API server is away":                     {state{applied: good}, nil, "good", false},
		"the assignment is the same":                 {state{applied: good}, assignment(1, "good"), "good", false},
		"another assignment has arrived":             {state{applied: good}, assignment(2, "next"), "good", false},
		"what was taken back is not tried again":     {state{applied: good, rolledBack: failed}, assignment(2, "bad"), "good", true},
		"what was taken back is asked for once more": {state{applied: good, rolledBack: failed}, assignment(3, "bad"), "good", false},
		"nothing was ever good":                      {state{}, assignment(1, "first"), "first", false},
		"nobody knows what ran":                      {state{applied: good, unconfirmed: true}, nil, "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := restarted(t, laststate.Folder(t.TempDir()), test.before)
			runs := ""
			if target := l.resume(test.assigned); target != nil {
				runs = target.Revision
			}
			if runs != test.runs {
				t.Errorf("runs %q first, want %q", runs, test.runs)
			}
			if got := test.assigned != nil && l.state.gaveUp(test.assigned); got != test.gaveUp {
				t.Errorf("gave up: %t, want %t", got, test.gaveUp)
			}
		})
	}
}

func TestWhatWasGoodLastMakesWayOnceItRuns(t *testing.T) {
	l := restarted(t, laststate.Folder(t.TempDir()), state{applied: assignment(1, "good")})
	next := assignment(2, "next")
	l.course = &course{assignment: l.resume(next)}
	if got := l.resume(next); got != next {
		t.Errorf("carries out %q, want %q", got.Revision, next.Revision)
	}
}

func TestWhatWasGoodLastGoesOnWhileNobodySaysOtherwise(t *testing.T) {
	l := restarted(t, laststate.Folder(t.TempDir()), state{applied: assignment(1, "good")})
	l.course = &course{assignment: l.resume(nil)}
	if got := l.resume(nil); got != l.course.assignment {
		t.Errorf("carries out %v, want what runs", got)
	}
}

func TestAReleasedNodeForgets(t *testing.T) {
	folder := laststate.Folder(t.TempDir())
	l := restarted(t, folder, state{applied: assignment(1, "good")})
	l.memory.forget(t.Context())
	if left, err := folder.Settings(); left != nil || err != nil {
		t.Errorf("left on disk: %v, %v", left, err)
	}
	if got := l.resume(nil); got != nil {
		t.Errorf("carries out %q, want nothing", got.Revision)
	}
}

func TestAnAgentWithoutMemoryGoesOnAndSaysSo(t *testing.T) {
	m := memory{folder: "/proc/nowhere"}
	m.keep(t.Context(), &state{applied: assignment(1, "good")})
	if m.problem == "" {
		t.Error("no problem is told")
	}
}

func TestVerdict(t *testing.T) {
	type verdictOf struct {
		Reason string
		Final  bool
	}
	tests := map[string]struct {
		err  error
		want verdictOf
	}{
		"a probe fails":              {&probe.FailedError{}, verdictOf{v1alpha1.ReasonProbeFailed, true}},
		"what was written is gone":   {errUnstable, verdictOf{v1alpha1.ReasonVerifyFailed, true}},
		"the kernel refuses a write": {errors.New("no memory"), verdictOf{v1alpha1.ReasonApplyFailed, false}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reason, final := verdict(test.err)
			if diff := cmp.Diff(test.want, verdictOf{reason, final}, cmpopts.EquateComparable()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
