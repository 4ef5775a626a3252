package traffic

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// patience is how long a new connection may take. It is less than the second after which TCP sends a lost SYN again
// (RFC 6298), so that one lost packet is a failure.
const patience = 900 * time.Millisecond

// keptFailures is how many failures a tally describes; it counts them all.
const keptFailures = 5

// Stream opens connections one after another, or sends datagrams, until it is stopped.
type Stream struct {
	from             *cluster.Host
	network, address string
	patience         time.Duration
	takes            chan chan Tally
	done             chan struct{}
	stop             context.CancelFunc
}

// Open starts a stream of new connections ("tcp") or datagrams of new sockets ("udp") from a host to IP:port. A
// connection is opened every so often, but never before the one before it has succeeded or failed. It ends with Stop or
// with ctx.
func Open(ctx context.Context, from *cluster.Host, network, address string, every time.Duration) *Stream {
	return OpenPatiently(ctx, from, network, address, every, patience)
}

// OpenPatiently is Open with another time that a new connection may take, for kernels on which everything takes long.
func OpenPatiently(ctx context.Context, from *cluster.Host, network, address string, every, patience time.Duration) *Stream {
	ctx, stop := context.WithCancel(ctx)
	s := &Stream{from: from, network: network, address: address, patience: patience, takes: make(chan chan Tally), done: make(chan struct{}), stop: stop}
	go s.run(ctx, every)
	return s
}

// Take returns what happened since the last Take, and counts anew. Every connection is in one tally: that of the Take
// after its start.
func (s *Stream) Take() Tally {
	answer := make(chan Tally, 1)
	select {
	case s.takes <- answer:
		return <-answer
	case <-s.done:
		return Tally{}
	}
}

// Stop ends the stream and returns what happened since the last Take.
func (s *Stream) Stop() Tally {
	tally := s.Take()
	s.stop()
	<-s.done
	return tally
}

func (s *Stream) run(ctx context.Context, every time.Duration) {
	defer close(s.done)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	tally := newTally(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case answer := <-s.takes:
			answer <- tally
			tally = newTally(time.Now())
		case <-ticker.C:
			start := time.Now()
			reply, err := s.ask(ctx)
			if ctx.Err() == nil {
				tally.note(start, time.Since(start), reply.Pod, err)
			}
		}
	}
}

func (s *Stream) ask(ctx context.Context) (cluster.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	return s.from.Ask(ctx, s.network, s.address)
}

// Tally is what became of connections.
type Tally struct {
	// Since is when it began to count.
	Since time.Time
	// Opened is how many were opened and answered; ByPod says by whom.
	Opened int
	ByPod  map[string]int
	// LastByPod is when the last one was opened that a pod answered.
	LastByPod map[string]time.Time
	// Failed is how many were not answered. Failures are the first of them, LastFailure is when the last one began.
	Failed      int
	Failures    []Failure
	LastFailure time.Time
	// Slowest is the longest time from the start of a connection to the answer.
	Slowest time.Duration
}

// Failure is one connection that was not answered.
type Failure struct {
	Start time.Time
	After time.Duration
	Err   error
}

func newTally(now time.Time) Tally {
	return Tally{Since: now, ByPod: map[string]int{}, LastByPod: map[string]time.Time{}}
}

func (t *Tally) note(start time.Time, took time.Duration, pod string, err error) {
	if err != nil {
		t.Failed++
		t.LastFailure = start
		if len(t.Failures) < keptFailures {
			t.Failures = append(t.Failures, Failure{Start: start, After: took, Err: err})
		}
		return
	}
	t.Opened++
	t.ByPod[pod]++
	t.LastByPod[pod] = start
	t.Slowest = max(t.Slowest, took)
}

// Sum adds up what several streams counted.
func Sum(tallies ...Tally) Tally {
	sum := newTally(time.Now())
	for _, t := range tallies {
		if t.Since.IsZero() {
			continue // of a stream that had ended
		}
		if t.Since.Before(sum.Since) {
			sum.Since = t.Since
		}
		sum.Opened += t.Opened
		sum.Failed += t.Failed
		sum.Failures = append(sum.Failures, t.Failures...)
		sum.Slowest = max(sum.Slowest, t.Slowest)
		if t.LastFailure.After(sum.LastFailure) {
			sum.LastFailure = t.LastFailure
		}
		for pod, n := range t.ByPod {
			sum.ByPod[pod] += n
			if t.LastByPod[pod].After(sum.LastByPod[pod]) {
				sum.LastByPod[pod] = t.LastByPod[pod]
			}
		}
	}
	slices.SortFunc(sum.Failures, func(a, b Failure) int { return a.Start.Compare(b.Start) })
	sum.Failures = sum.Failures[:min(len(sum.Failures), keptFailures)]
	return sum
}

// String says what was counted, with the first failures.
func (t Tally) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d opened, %d failed, slowest %s;", t.Opened, t.Failed, t.Slowest.Round(time.Millisecond))
	for _, pod := range slices.Sorted(maps.Keys(t.ByPod)) {
		fmt.Fprintf(&text, " %s %d", pod, t.ByPod[pod])
	}
	for _, f := range t.Failures {
		fmt.Fprintf(&text, "\n  after %s: failed in %s: %s",
			f.Start.Sub(t.Since).Round(time.Millisecond), f.After.Round(time.Millisecond), f.Err)
	}
	return text.String()
}
