package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/health"
)

// fieldManager owns the status in server-side apply.
const fieldManager = "service-proxy-agent"

// The pace of status. What decides something is written at once; counters and times only when the last write is some
// time ago, so that an idle node writes nothing and a busy one seldom.
const (
	counterInterval = time.Minute
	settle          = time.Second
)

// reporter tells the world what the loop did: metrics and health at once, status and events through the API. Its
// methods never block on the network.
type reporter struct {
	metrics  *metrics
	health   *health.Status
	recorder record.EventRecorder
	clock    clock.Clock
	version  string
	nodeName string
	logger   klog.Logger

	wake chan struct{}
	mu   sync.Mutex
	next *snapshot

	// told is when a problem was told last, and announcer what was told of the node; only the loop reads and writes them.
	told      map[string]time.Time
	announcer announcer
}

// snapshot is a status to be written, and to which object.
type snapshot struct {
	uid    types.UID
	status v1alpha1.ServiceProxyNodeStatus
}

func (r *reporter) queued(since time.Time) {
	r.health.Queued(since)
	r.metrics.lastQueued.Set(float64(since.UnixNano()) / 1e9)
}

// synced is told of a write that succeeded: how long it took and what it was about.
func (r *reporter) synced(took time.Duration, batch *catalog.Batch, written effect) {
	now := r.clock.Now()
	r.health.Synced(now)
	r.health.SetEligible(!batch.World.Node.Leaving)
	r.metrics.lastSync.Set(float64(now.UnixNano()) / 1e9)
	if took > 0 {
		r.metrics.syncDuration.Observe(took.Seconds())
		r.logger.V(3).Info("Wrote to the kernel", "took", took, "chains", written.chains, "bytes", written.bytes, "messages", written.messages)
	}
	for _, t := range batch.Triggered {
		r.metrics.programming.Observe(now.Sub(t).Seconds())
	}
	r.metrics.chainsWritten.Add(float64(written.chains))
	r.metrics.bytesWritten.Add(float64(written.bytes))
	r.metrics.messagesSent.Add(float64(written.messages))
}

// flowsEnded is told how many stale flows were ended, and how long it took to find them.
func (r *reporter) flowsEnded(n int, took time.Duration) {
	r.metrics.flowsEnded.Add(float64(n))
	r.metrics.flowsDuration.Observe(took.Seconds())
}

// tellAgain is after what time a problem that is still there is told again.
const tellAgain = time.Hour

// problems is told of what was left out of a Service or an EndpointSlice. It is found again with every change of the
// object, and told once an hour.
func (r *reporter) problems(problems []catalog.Problem) {
	now := r.clock.Now()
	for _, p := range problems {
		if now.Sub(r.told[p.String()]) < tellAgain {
			continue
		}
		maps.DeleteFunc(r.told, func(_ string, at time.Time) bool { return now.Sub(at) >= tellAgain })
		r.told[p.String()] = now
		r.logger.Info("Left out a part of an object", "kind", p.Object.Kind, "object", klog.KRef(p.Object.Namespace, p.Object.Name),
			"field", p.Field, "reason", p.Message)
		if r.recorder != nil {
			r.recorder.Eventf(&p.Object, corev1.EventTypeWarning, "NotProgrammed", "%s: %s", p.Field, p.Message)
		}
	}
}

// stepped is told of the state after each step.
func (r *reporter) stepped(s *state) {
	r.metrics.rules.Set(float64(s.rules))
	r.metrics.services.Set(float64(s.services))
	r.metrics.endpoints.Set(float64(s.endpoints))
	r.metrics.setNoLocal(s.noLocal)
	r.metrics.disputedAddresses.Set(float64(len(s.disputes)))
	r.metrics.assignmentAccepted.Set(map[bool]float64{true: 1}[s.refused == nil])
	r.metrics.dataPathBroken.Set(float64(len(s.broken)))
	r.metrics.drift.Set(float64(len(s.drifted)))
	r.health.SetRemembered(s.remembered)
	r.metrics.runningFromMemory.Set(map[bool]float64{true: 1}[!s.remembered.IsZero()])
	if s.failed != nil {
		r.metrics.failures.Inc()
	}

	if s.unconfirmed {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var previous v1alpha1.ServiceProxyNodeStatus
	if r.next != nil && r.next.uid == s.assignment.UID {
		previous = r.next.status
	}
	r.next = &snapshot{uid: s.assignment.UID, status: s.status(&previous, r.version, r.clock.Now())}
	r.announce(r.next)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reporter) latest() *snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// writeStatus writes the status of a node whenever it has changed, until the context ends.
func (r *reporter) writeStatus(ctx context.Context, client rest.Interface, nodeName string) {
	var last *snapshot
	var lastWrite time.Time
	retry := firstRetry
	timer := r.clock.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C():
		}
		next := r.latest()
		wait := idle
		switch now := r.clock.Now(); {
		case next == nil || last != nil && last.uid == next.uid && reflect.DeepEqual(last.status, next.status):
		case last != nil && !urgent(last, next) && now.Before(lastWrite.Add(counterInterval)):
			wait = lastWrite.Add(counterInterval).Sub(now)
		default:
			if err := apply(ctx, client, nodeName, next); err != nil {
				r.logger.Error(err, "Reporting status failed", "retryIn", retry)
				wait, retry = retry, min(2*retry, longestRetry)
				break
			}
			last, lastWrite, retry = next, now, firstRetry
			// Counters often follow in a moment; one more look soon shows them while somebody may be watching.
			wait = settle
		}
		timer.Stop()
		timer = r.clock.NewTimer(wait)
	}
}

// urgent says whether anybody decides by what changed between two statuses.
func urgent(last, next *snapshot) bool {
	quiet := func(s *snapshot) v1alpha1.ServiceProxyNodeStatus {
		status := s.status
		if status.Sync != nil {
			// That somebody changes our rules is news; how many rules there are is not.
			status.Sync = &v1alpha1.SyncStatus{Repairs: status.Sync.Repairs}
		}
		return status
	}
	return last.uid != next.uid || !reflect.DeepEqual(quiet(last), quiet(next))
}

// apply writes a status by server-side apply. The UID keeps it from landing on the object of a Node of the same name
// that was made anew meanwhile.
func apply(ctx context.Context, client rest.Interface, nodeName string, s *snapshot) error {
	body, err := json.Marshal(v1alpha1.ServiceProxyNode{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "ServiceProxyNode"},
		ObjectMeta: metav1.ObjectMeta{Name: nodeName, UID: s.uid},
		Status:     s.status,
	})
	if err != nil {
		return fmt.Errorf("encoding the status: %w", err)
	}
	options := metav1.PatchOptions{FieldManager: fieldManager, Force: new(true)}
	err = client.Patch(types.ApplyPatchType).Resource(resource).Name(nodeName).SubResource("status").
		VersionedParams(&options, metav1.ParameterCodec).Body(body).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("writing the status of ServiceProxyNode %s: %w", nodeName, err)
	}
	return nil
}
