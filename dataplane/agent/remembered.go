package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// patience is how long a node that has no Services waits for the API server before it turns to those that it had.
const patience = 3 * time.Second

// The pace of writing what the API says to disk: soon, so that a node that has just joined can boot without the API server,
// but seldom where Services change all the time.
const (
	firstWrite    = 5 * time.Second
	writeInterval = 30 * time.Second
)

// recollection keeps the last Services and endpoints on disk, for a boot while the API server is away.
type recollection struct {
	// folder is where they are kept; empty for nowhere.
	folder  laststate.Folder
	catalog *catalog.Catalog
	clock   clock.Clock

	// since is when the loop began to wait for the API server, and over says that what is on disk is of no use any more. Only
	// the loop knows them.
	since time.Time
	over  bool

	wake chan struct{}
	// stale says that the file is older than what the API says.
	stale atomic.Bool
	// file is held while the file is written or removed.
	file    sync.Mutex
	problem atomic.Pointer[string]
}

func newRecollection(folder laststate.Folder, c *catalog.Catalog, clk clock.Clock) *recollection {
	return &recollection{folder: folder, catalog: c, clock: clk, wake: make(chan struct{}, 1)}
}

// changed is told that what the API says is not what it said before. It does not wait for the disk.
func (r *recollection) changed() {
	r.stale.Store(true)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run writes the file until the context ends, and then once more if need be.
func (r *recollection) run(ctx context.Context) {
	if r.folder == "" {
		return
	}
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			r.write(ctx)
			return
		case <-r.wake:
		}
		select {
		case <-ctx.Done():
		case <-r.clock.After(max(next.Sub(r.clock.Now()), firstWrite)):
		}
		r.write(ctx)
		next = r.clock.Now().Add(writeInterval)
	}
}

func (r *recollection) write(ctx context.Context) {
	r.file.Lock()
	defer r.file.Unlock()
	if !r.stale.Load() {
		return
	}
	s, complete := r.catalog.Snapshot()
	if !complete {
		return
	}
	r.stale.Store(false)
	err := r.folder.SaveTable(&s)
	if r.tell(ctx, err); err != nil {
		r.changed() // for another attempt
	}
}

// forget removes the file.
func (r *recollection) forget(ctx context.Context) {
	if r.folder == "" {
		return
	}
	r.file.Lock()
	defer r.file.Unlock()
	r.stale.Store(false)
	r.tell(ctx, r.folder.RemoveTable())
}

// tell notes whether something could be written, and logs it once if not.
func (r *recollection) tell(ctx context.Context, err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if before := r.problem.Swap(&problem); problem != "" && (before == nil || *before != problem) {
		klog.FromContext(ctx).Error(err, "Going on without a memory of Services")
	}
}

// forgetful says why a boot would not know the last Services; empty when it would.
func (r *recollection) forgetful() string {
	if problem := r.problem.Load(); problem != nil {
		return *problem
	}
	return ""
}

// lookBack turns to the last Services and endpoints where the API server has not answered for a while and the kernel holds
// nothing of ours, as after a boot. What the kernel holds is newer than any file. It returns when to look again.
func (l *loop) lookBack(ctx context.Context) time.Duration {
	r, logger := l.recollection, klog.FromContext(ctx)
	if r.over || r.folder == "" {
		return idle
	}
	now := l.clock.Now()
	if r.since.IsZero() {
		r.since = now
	}
	if wait := r.since.Add(patience).Sub(now); wait > 0 {
		return wait
	}
	held, err := l.kernelHoldsOurs(ctx)
	if err != nil {
		logger.Error(err, "Looking for what the kernel holds of ours failed", "retryIn", longestRetry)
	}
	if err != nil || held {
		return longestRetry
	}
	r.over = true
	s, err := r.folder.Table()
	switch {
	case err != nil:
		logger.Error(err, "Waiting for the API server, without Services")
	case s == nil:
		logger.Info("Waiting for the API server, without Services: none are remembered")
	case s.NodeName != l.report.nodeName:
		logger.Info("Waiting for the API server, without Services: those that are remembered are of another node", "of", s.NodeName)
	default:
		logger.Info("The API server does not answer, and the kernel holds nothing of ours; going on with what it said last",
			"services", len(s.Entries), "from", s.Taken)
		l.state.remembered = s.Taken
		r.catalog.Restore(*s)
	}
	return idle
}

// kernelHoldsOurs says whether the kernel holds anything that an agent before this one has written, in any mode.
func (l *loop) kernelHoldsOurs(ctx context.Context) (bool, error) {
	tools := l.tools
	if tools == nil {
		var err error
		if tools, err = xtables.Probe(ctx); err != nil {
			return false, err
		}
	}
	if held, err := iptables.Holds(ctx, tools); held || err != nil {
		return held, err
	}
	return ipvs.Holds(ctx, tools)
}

// recollect takes note of where a batch comes from, and has what the API says written to disk where it is new.
func (l *loop) recollect(ctx context.Context, batch *catalog.Batch, changed bool) {
	if batch.Remembered {
		return
	}
	l.recollection.over = true
	if !l.state.remembered.IsZero() {
		klog.FromContext(ctx).Info("The API server answers again; going on with what it says", "rememberedFrom", l.state.remembered)
		l.state.remembered = time.Time{}
	}
	if c := l.current(); changed || batch.WorldChanged || c != nil && c.fresh {
		l.recollection.changed()
	}
}
