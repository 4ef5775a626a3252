// Package health answers load balancers, kubelets and people who ask whether the proxy of this node works, at the paths
// and with the bodies of kube-proxy.
package health

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stuckAfter is how long a change may wait for the kernel before the proxy counts as unhealthy.
const stuckAfter = time.Minute

// Status is what the answers are made from. It is safe for concurrent use.
type Status struct {
	now              func() time.Time
	healthzs, livezs *prometheus.CounterVec

	mu sync.Mutex
	// waiting is since when the oldest change waits that the kernel does not follow yet; zero when there is none.
	waiting  time.Time
	lastSync time.Time
	eligible bool
	// broken says why Services do not work although the kernel follows; empty while they do.
	broken string
	// remembered is when the API server said what the kernel follows, where that was before this program started.
	remembered time.Time
	// assigned says whether there is anything to do; nil until that is known.
	assigned *bool
}

// NewStatus returns the status of a proxy that has not synced yet.
func NewStatus(now func() time.Time) *Status {
	return &Status{now: now, healthzs: newAnswerCounter("healthz"), livezs: newAnswerCounter("livez"), eligible: true}
}

// Queued notes that changes wait since a time.
func (s *Status) Queued(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.IsZero() {
		s.waiting = since
	}
}

// Synced notes that nothing waits any more.
func (s *Status) Synced(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.lastSync = time.Time{}, at
}

// SetEligible says whether load balancers should send new connections to this node at all.
func (s *Status) SetEligible(eligible bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eligible = eligible
}

// SetBroken says why Services do not work from this node although the kernel follows changes; empty when they do. Load
// balancers then turn to other nodes. It is no reason to start the agent again, which would change nothing.
func (s *Status) SetBroken(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = reason
}

// SetRemembered says that the kernel follows what the API server said at a time before this program started, because it has
// not answered since; zero when it has. That is better than nothing, and no reason to turn to other nodes, which may boot
// like this one.
func (s *Status) SetRemembered(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remembered = at
}

// SetAssigned says whether this node has been given anything to do.
func (s *Status) SetAssigned(assigned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.assigned = &assigned
}

// Healthy says whether the kernel was programmed and follows changes. Whether the node is about to go makes no
// difference.
func (s *Status) Healthy() bool {
	a := s.answer()
	return a.Healthy && !a.LastUpdated.IsZero()
}

// answer is the body of kube-proxy's /healthz and, without NodeEligible, of its /livez.
type answer struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible *bool     `json:"nodeEligible,omitempty"`
	Healthy      bool      `json:"healthy"`
	// Broken says why Services do not work, where they do not. kube-proxy has no such field.
	Broken string `json:"broken,omitempty"`
	// Remembered is when the API server said what is programmed, where it has not answered since the start. kube-proxy has
	// no such field.
	Remembered time.Time `json:"remembered,omitzero"`
	// Status has the same for each family, as kube-proxy does. Both are written in one sync, so they never differ.
	Status map[string]familyStatus `json:"status"`
}

type familyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

func (s *Status) answer() answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, eligible := s.now(), s.eligible
	a := answer{LastUpdated: s.lastSync, CurrentTime: now, NodeEligible: &eligible, Broken: s.broken, Remembered: s.remembered}
	a.Healthy = s.waiting.IsZero() || now.Sub(s.waiting) < stuckAfter
	return a
}

// Healthz answers whether load balancers should send to this node: 200 once the kernel was programmed, as long as it
// follows changes, Services work, and the node is not about to go, else 503.
func (s *Status) Healthz(w http.ResponseWriter, _ *http.Request) {
	a := s.answer()
	a.Healthy = a.Healthy && !a.LastUpdated.IsZero() && a.Broken == ""
	write(w, a, a.Healthy && *a.NodeEligible, s.healthzs)
}

// Readyz answers whether an update of agents may go on to the next node: 200 when there is nothing to do here, or when it
// has been done once.
func (s *Status) Readyz(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	ready := s.assigned != nil && (!*s.assigned || !s.lastSync.IsZero())
	s.mu.Unlock()
	respond(w, struct {
		Ready bool `json:"ready"`
	}{ready}, ready)
}

// Livez answers whether the agent should go on running: 200 unless changes have waited too long. It does not depend on
// the node, nor on the API server.
func (s *Status) Livez(w http.ResponseWriter, _ *http.Request) {
	a := s.answer()
	a.NodeEligible, a.Broken, a.Remembered = nil, "", time.Time{}
	write(w, a, a.Healthy, s.livezs)
}

func write(w http.ResponseWriter, a answer, ok bool, count *prometheus.CounterVec) {
	family := familyStatus{LastUpdated: a.LastUpdated, Healthy: a.Healthy}
	a.Status = map[string]familyStatus{"IPv4": family, "IPv6": family}
	count.WithLabelValues(strconv.Itoa(respond(w, a, ok))).Inc()
}

// respond writes an answer as JSON, 200 or 503, and returns which.
func respond(w http.ResponseWriter, body any, ok bool) (code int) {
	code = http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client is gone
	return code
}
