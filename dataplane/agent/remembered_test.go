package agent

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
)

// emptyCatalog is a catalog whose lists are complete: of an API server that has no resources at all.
func emptyCatalog(t *testing.T, clk *clocktesting.FakeClock) *catalog.Catalog {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(http.NotFound))
	t.Cleanup(server.Close)
	c := catalog.New("here", clk.Now)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, &rest.Config{Host: server.URL}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	for !c.Synced() {
		select {
		case <-c.Changed():
		case <-time.After(time.Minute):
			t.Fatal("the lists were never complete")
		}
	}
	return c
}

// remembering is a recollection that runs, on a clock that stands still.
type remembering struct {
	*recollection
	t     *testing.T
	clock *clocktesting.FakeClock
	stop  func()
}

func remember(t *testing.T, folder laststate.Folder) remembering {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	r := newRecollection(folder, emptyCatalog(t, clk), clk)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx)
	}()
	stop := func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return remembering{r, t, clk, stop}
}

// pass has time go by, once the recollection waits for it.
func (r remembering) pass(d time.Duration) {
	r.t.Helper()
	r.wait("to wait", r.clock.HasWaiters)
	r.clock.Step(d)
}

func (r remembering) wait(what string, come func() bool) {
	r.t.Helper()
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !come() {
		select {
		case <-ticker.C:
		case <-deadline:
			r.t.Fatalf("the recollection never came %s", what)
		}
	}
}

// written is when the file was written; zero when there is none.
func (r remembering) written() time.Time {
	r.t.Helper()
	s, err := r.folder.Table()
	if err != nil {
		r.t.Fatal(err)
	}
	if s == nil {
		return time.Time{}
	}
	return s.Taken
}

func (r remembering) expect(what string, want time.Time) {
	r.t.Helper()
	r.wait("to write: "+what, func() bool { return r.written().Equal(want) })
}

func TestTheFileIsWrittenSoonAndThenSeldom(t *testing.T) {
	r := remember(t, laststate.Folder(t.TempDir()))
	start := r.clock.Now()
	r.changed()
	r.pass(firstWrite - 1)
	if at := r.written(); !at.IsZero() {
		t.Errorf("written at %s", at)
	}
	r.pass(1)
	r.expect("the first time", start.Add(firstWrite))
	for range 10 {
		r.changed()
	}
	r.pass(writeInterval - 1)
	if at := r.written(); !at.Equal(start.Add(firstWrite)) {
		t.Errorf("written again after %s", at.Sub(start))
	}
	r.pass(1)
	r.expect("what was gathered", start.Add(firstWrite+writeInterval))
	r.changed()
	r.pass(time.Second)
	r.stop()
	if at := r.written(); !at.Equal(start.Add(firstWrite + writeInterval + time.Second)) {
		t.Errorf("at the end, the file is of %s", at)
	}
}

func TestNothingIsWrittenWhereNothingChanges(t *testing.T) {
	r := remember(t, laststate.Folder(t.TempDir()))
	r.stop()
	if at := r.written(); !at.IsZero() {
		t.Errorf("written at %s", at)
	}
}

func TestWhatIsForgottenIsNotWrittenAfterwards(t *testing.T) {
	r := remember(t, laststate.Folder(t.TempDir()))
	r.changed()
	r.pass(firstWrite)
	r.expect("the first time", r.clock.Now())
	r.changed()
	r.forget(t.Context())
	r.pass(writeInterval)
	r.stop()
	if at := r.written(); !at.IsZero() {
		t.Errorf("written at %s", at)
	}
}

func TestADiskThatRefusesIsToldAndTriedAgain(t *testing.T) {
	inTheWay := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := remember(t, laststate.Folder(inTheWay))
	r.changed()
	r.pass(firstWrite)
	r.wait("to tell", func() bool { return strings.Contains(r.forgetful(), inTheWay) })
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	r.pass(writeInterval)
	r.expect("after the disk was there again", r.clock.Now())
	r.wait("to tell", func() bool { return r.forgetful() == "" })
}

func TestAnAgentWithoutAFolderKeepsNothing(t *testing.T) {
	r := remember(t, "")
	r.changed()
	r.forget(t.Context())
	r.stop()
	if problem := r.forgetful(); problem != "" {
		t.Error(problem)
	}
}
