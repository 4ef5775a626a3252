package status_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/status"
)

func now() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

// pool is a pool of nodes, some of which are updated; conditions are written as TYPE=STATUS REASON MESSAGE.
func pool(name string, nodes, updated, failed int32, conditions ...string) v1alpha1.ServiceProxyConfig {
	c := v1alpha1.ServiceProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}}
	c.Spec.Mode = v1alpha1.ModeIPTables
	c.Status.Conditions = parse(conditions)
	c.Status.CurrentRevision, c.Status.UpdateRevision = name+"-1", name+"-1"
	if updated < nodes {
		c.Status.UpdateRevision = name + "-2"
	}
	c.Status.Nodes = &v1alpha1.NodeCounts{Assigned: &nodes, Updated: &updated, Ready: &updated, Failed: &failed, Unavailable: new(int32)}
	return c
}

// node is a node that was given something ten minutes ago.
func node(name string, conditions ...string) v1alpha1.ServiceProxyNode {
	o := v1alpha1.ServiceProxyNode{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1,
		CreationTimestamp: metav1.NewTime(now().Add(-10 * time.Minute))}}
	o.Spec.Revision = "default-1"
	o.Status.ObservedGeneration = 1
	o.Status.Conditions = parse(conditions)
	return o
}

func parse(texts []string) []metav1.Condition {
	var conditions []metav1.Condition
	for _, text := range texts {
		kind, rest, _ := strings.Cut(text, "=")
		words := strings.SplitN(rest, " ", 3)
		c := metav1.Condition{Type: kind, Status: metav1.ConditionStatus(words[0]), Reason: words[1], ObservedGeneration: 1,
			LastTransitionTime: metav1.NewTime(now().Add(-5 * time.Minute))}
		if len(words) > 2 {
			c.Message = words[2]
		}
		conditions = append(conditions, c)
	}
	return conditions
}

const synced = "Ready=True Synced"

func several(n int, conditions ...string) []v1alpha1.ServiceProxyNode {
	var nodes []v1alpha1.ServiceProxyNode
	for i := range n {
		nodes = append(nodes, node(fmt.Sprintf("n%04d", i), conditions...))
	}
	return nodes
}

func TestReport(t *testing.T) {
	silent := node("a")
	silent.Status.ObservedGeneration = -1
	fresh := silent
	fresh.CreationTimestamp = metav1.NewTime(now().Add(-10 * time.Second))
	unseen := pool("default", 0, 0, 0)
	unseen.Status.ObservedGeneration = -1
	halted := pool("default", 3, 0, 1,
		"Ready=False RolloutHalted 1 node failed", "Stalled=True RolloutHalted 1 node failed")
	halted.Status.FailedNodes = []v1alpha1.FailedNode{{Name: "a", Reason: "ProbeFailed"}}

	tests := map[string]struct {
		view status.View
		well bool
		want string
	}{
		"nothing": {view: status.View{Nodes: new(3)}, well: true, want: `
Nothing to do: there is no ServiceProxyConfig, so no node is touched.
`},
		"all is well": {well: true,
			view: status.View{
				Configs: []v1alpha1.ServiceProxyConfig{pool("edge", 1, 1, 0, "Ready=True AllNodesReady"), pool("default", 2, 2, 0, "Ready=True AllNodesReady")},
				Objects: several(3, synced), Nodes: new(4),
			}, want: `
All is well: 2 pools with 3 nodes, 3 in sync; 1 node has no config.

POOL     MODE      NODES  UPDATED  IN SYNC  FAILED  NOT READY  STATE
default  iptables  2      2        2        0       0          AllNodesReady
edge     iptables  1      1        1        0       0          AllNodesReady
`},
		"rolling out": {
			view: status.View{
				Configs: []v1alpha1.ServiceProxyConfig{pool("default", 4, 1, 0,
					"Ready=False RollingOut 1 of 4 nodes run revision default-2", "Reconciling=True Canary 1 of 4")},
				Objects: several(4, synced),
			}, want: `
On the way: 4 of 4 nodes in sync.

PROGRESS RollingOut on pool default
  1 of 4 nodes run revision default-2
  -> kubectl serviceproxy status --watch

POOL     MODE      NODES  UPDATED  IN SYNC  FAILED  NOT READY  STATE
default  iptables  4      1        1        0       0          Canary [#####---------------] 25%
`},
		"halted": {
			view: status.View{Configs: []v1alpha1.ServiceProxyConfig{halted},
				Objects: append(several(2, synced), node("a", "Ready=False ProbeFailed", "RolledBack=True ProbeFailed no answer"))},
			want: `
Not well: 2 errors; 2 of 3 nodes in sync.

ERROR ProbeFailed on 1 node: a
  no answer
  -> kubectl serviceproxy why a

ERROR RolloutHalted on pool default
  1 node failed
  -> kubectl serviceproxy why a
  -> kubectl serviceproxy rollback default  # to default-1
  -> kubectl serviceproxy retry default  # when the cause is gone

POOL     MODE      NODES  UPDATED  IN SYNC  FAILED  NOT READY  STATE
default  iptables  3      0        0        1       0          RolloutHalted [--------------------] 0%
`},
		"paused": {
			view: status.View{Configs: []v1alpha1.ServiceProxyConfig{pool("default", 2, 1, 0, "Ready=False RolloutPaused 1 node is without it")},
				Objects: several(2, synced)},
			want: `
Look here: 1 warning; 2 of 2 nodes in sync.

WARNING RolloutPaused on pool default
  1 node is without it
  -> kubectl serviceproxy resume default

POOL     MODE      NODES  UPDATED  IN SYNC  FAILED  NOT READY  STATE
default  iptables  2      1        1        0       0          RolloutPaused [##########----------] 50%
`},
		"no operator": {view: status.View{Configs: []v1alpha1.ServiceProxyConfig{unseen}, Namespace: "proxy"}, want: `
Look here: 1 warning; 0 of 0 nodes in sync.

WARNING NotObserved on pool default
  the operator has not looked at it yet; if that lasts, it does not run
  -> kubectl -n proxy get deployment service-proxy-operator

POOL     MODE      NODES  UPDATED  IN SYNC  FAILED  NOT READY  STATE
default  iptables  0      0        0        0       0          NotObserved
`},
		"an agent is silent": {view: status.View{Objects: []v1alpha1.ServiceProxyNode{silent}, Namespace: "proxy"}, want: `
Look here: 1 warning; 0 of 1 node in sync.

WARNING Silent on 1 node: a
  no agent has reported: is its Pod running?
  -> kubectl -n proxy get pods --field-selector spec.nodeName=a
  -> kubectl serviceproxy why a
`},
		"an agent has not had time": {view: status.View{Objects: []v1alpha1.ServiceProxyNode{fresh}}, well: true, want: `
All is well: 0 pools with 1 node, 0 in sync.
`},
		"kube-proxy's rules are no fault": {well: true,
			view: status.View{Configs: []v1alpha1.ServiceProxyConfig{pool("default", 1, 1, 0, "Ready=True AllNodesReady")},
				Objects: several(1, synced, "ForeignProxy=True KubeProxyRulesFound it runs")},
			want: `
All is well: 1 pool with 1 node, 1 in sync.

NOTE KubeProxyRulesFound on 1 node: n0000
  it runs
  -> kubectl serviceproxy why n0000  # says whether kube-proxy runs

POOL     MODE      NODES  UPDATED  IN SYNC  FAILED  NOT READY  STATE
default  iptables  1      1        1        0       0          AllNodesReady
`},
		"thousands of nodes": {
			view: status.View{
				Configs: []v1alpha1.ServiceProxyConfig{pool("default", 5000, 5000, 0, "Ready=True AllNodesReady")},
				Objects: append(several(4980, synced), func() []v1alpha1.ServiceProxyNode {
					lost := several(20, synced, "HeldBack=True SuddenLoss 100 Services were lost")
					for i := range lost {
						lost[i].Name = "z" + lost[i].Name
					}
					return lost
				}()...),
			}, want: `
Look here: 1 warning; 5000 of 5000 nodes in sync.

WARNING SuddenLoss on 20 nodes: zn0000, zn0001, zn0002, zn0003, zn0004 and 15 more
  100 Services were lost
  -> kubectl serviceproxy why zn0000

POOL     MODE      NODES  UPDATED  IN SYNC  FAILED  NOT READY  STATE
default  iptables  5000   5000     5000     0       0          AllNodesReady
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.view.Now = now()
			report := status.Make(test.view)
			if report.Well != test.well {
				t.Errorf("well is %t, want %t", report.Well, test.well)
			}
			var out bytes.Buffer
			page := output.NewPage(&out)
			report.Print(page, false)
			if err := page.Flush(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), out.String()); diff != "" {
				t.Errorf("another page (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReportAsJSON fixes the names that programs read.
func TestReportAsJSON(t *testing.T) {
	report := status.Make(status.View{
		Configs: []v1alpha1.ServiceProxyConfig{pool("default", 2, 1, 1, "Ready=False NodesFailed 1 failed", "Stalled=True NodesFailed 1 failed")},
		Objects: []v1alpha1.ServiceProxyNode{node("a", synced), node("b", "Programmed=False ApplyFailed refused")}, Nodes: new(3), Now: now(),
	})
	got, err := json.MarshalIndent(report, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "well": false,
 "summary": "Not well: 2 errors; 1 of 2 nodes in sync; 1 node has no config",
 "problems": [
  {
   "severity": "Error",
   "nodes": [
    "b"
   ],
   "reason": "ApplyFailed",
   "message": "refused",
   "next": [
    "kubectl serviceproxy why b"
   ]
  },
  {
   "severity": "Error",
   "pool": "default",
   "reason": "NodesFailed",
   "message": "1 failed",
   "next": [
    "kubectl serviceproxy retry default  # when the cause is gone"
   ]
  }
 ],
 "pools": [
  {
   "name": "default",
   "mode": "iptables",
   "priority": 0,
   "ready": false,
   "state": "NodesFailed",
   "message": "1 failed",
   "paused": false,
   "currentRevision": "default-1",
   "updateRevision": "default-2",
   "assigned": 2,
   "updated": 1,
   "inSync": 1,
   "failed": 1,
   "unavailable": 0
  }
 ],
 "nodes": {
  "total": 3,
  "assigned": 2,
  "inSync": 1,
  "problems": 1,
  "unassigned": 1
 }
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("another report (-want +got):\n%s", diff)
	}
}
