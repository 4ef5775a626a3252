package traffic

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
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

// Pace is how fast a stream opens connections.
type Pace struct {
	// Every is the time from one row of connections to the next, and Row how many there are in it, one after another.
	Every time.Duration
	Row   int
	// Arrears is how much of the time in which rows were missed, because something took long, is made up for.
	Arrears time.Duration
	// Patience is how long a connection may take.
	Patience time.Duration
}

// Stream opens connections one after another, or sends datagrams, until it is stopped.
type Stream struct {
	network string
	address netip.AddrPort
	pace    Pace
	takes   chan chan Tally
	done    chan struct{}
	stop    context.CancelFunc
	end     Tally // what is left when done is closed: nothing, or that the stream could not begin
}

// Open starts a stream of new connections ("tcp") or datagrams of new sockets ("udp") from a host to IP:port. A
// connection is opened every so often, but never before the one before it has succeeded or failed. It ends with Stop or
// with ctx.
func Open(ctx context.Context, from *cluster.Host, network, address string, every time.Duration) *Stream {
	return OpenPatiently(ctx, from, network, address, every, patience)
}

// OpenPatiently is Open with another time that a new connection may take, for kernels on which everything takes long.
func OpenPatiently(ctx context.Context, from *cluster.Host, network, address string, every, patience time.Duration) *Stream {
	return OpenAt(ctx, from, network, address, Pace{Every: every, Row: 1, Patience: patience})
}

// OpenAt is Open at another pace. On a kernel on which it takes longer to wait than to connect, rows are faster.
func OpenAt(ctx context.Context, from *cluster.Host, network, address string, pace Pace) *Stream {
	ctx, stop := context.WithCancel(ctx)
	s := &Stream{
		network: network, address: netip.MustParseAddrPort(address), pace: pace,
		takes: make(chan chan Tally), done: make(chan struct{}), stop: stop,
	}
	go func() {
		defer close(s.done)
		start := time.Now()
		// It stays on one thread in the namespace: to go there anew for every connection takes longer than the connection.
		if err := from.Do(func() error {
			s.run(ctx)
			return nil
		}); err != nil {
			s.end = newTally(start)
			s.end.note(start, start, "", err)
		}
	}()
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
		return s.end
	}
}

// Stop ends the stream and returns what happened since the last Take.
func (s *Stream) Stop() Tally {
	tally := s.Take()
	s.stop()
	<-s.done
	return tally
}

func (s *Stream) run(ctx context.Context) {
	ticker := time.NewTicker(s.pace.Every)
	defer ticker.Stop()
	last := time.Now()
	tally := newTally(last)
	for {
		select {
		case <-ctx.Done():
			return
		case answer := <-s.takes:
			answer <- tally
			tally = newTally(time.Now())
		case <-ticker.C:
			now := time.Now()
			missed := min(now.Sub(last)-s.pace.Every, s.pace.Arrears).Round(s.pace.Every) / s.pace.Every
			last = now
			for range 1 + missed {
				now = s.openRow(ctx, now, &tally)
			}
		}
	}
}

// openRow opens a row of connections and returns when it has.
func (s *Stream) openRow(ctx context.Context, now time.Time, tally *Tally) time.Time {
	for range s.pace.Row {
		if ctx.Err() != nil {
			return now
		}
		start := now
		pod, err := ask(start, s.network, s.address, s.pace.Patience)
		now = time.Now()
		if ctx.Err() == nil {
			tally.note(start, now, pod, err)
		}
	}
	return now
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

func (t *Tally) note(start, end time.Time, pod string, err error) {
	took := end.Sub(start)
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
