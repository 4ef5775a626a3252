package gitops

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

const generation = 3

// situation is what a status says, and what is to be read from it.
type situation struct {
	observed   int64 // the generation, when 0
	conditions []metav1.Condition
	want       verdict
}

// is makes a condition of the generation.
func is(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: "because of " + reason, ObservedGeneration: generation,
	}
}

func TestConfigs(t *testing.T) {
	const yes, no = metav1.ConditionTrue, metav1.ConditionFalse
	ready := func(reason string) metav1.Condition { return is(v1alpha1.ConditionReady, yes, reason) }
	notReady := func(reason string) metav1.Condition { return is(v1alpha1.ConditionReady, no, reason) }
	reconciling := func(reason string) metav1.Condition { return is(v1alpha1.ConditionReconciling, yes, reason) }
	stalled := func(reason string) metav1.Condition { return is(v1alpha1.ConditionStalled, yes, reason) }
	accepted := is(v1alpha1.ConditionAccepted, yes, v1alpha1.ReasonValid)
	noConflict := is(v1alpha1.ConditionConflicted, no, v1alpha1.ReasonNoOverlap)

	tests := map[string]situation{
		"just created": {observed: -1, want: onItsWay},
		"ready as another generation, which is history": {
			observed: generation - 1, want: onItsWay,
			conditions: []metav1.Condition{func() metav1.Condition {
				old := ready(v1alpha1.ReasonAllNodesReady)
				old.ObservedGeneration--
				return old
			}()},
		},
		"stalled as another generation, which is history": {
			observed: generation - 1, want: onItsWay,
			conditions: []metav1.Condition{
				notReady(v1alpha1.ReasonRolloutHalted), stalled(v1alpha1.ReasonRolloutHalted),
			},
		},
		"canary": {
			want: onItsWay,
			conditions: []metav1.Condition{
				notReady(v1alpha1.ReasonRollingOut), reconciling(v1alpha1.ReasonCanary), accepted, noConflict,
			},
		},
		"batches": {
			want: onItsWay,
			conditions: []metav1.Condition{
				notReady(v1alpha1.ReasonRollingOut), reconciling(v1alpha1.ReasonRollingOut), accepted, noConflict,
			},
		},
		"waiting for nodes": {
			want: onItsWay,
			conditions: []metav1.Condition{
				notReady(v1alpha1.ReasonRollingOut), reconciling(v1alpha1.ReasonWaitingForNodes), accepted, noConflict,
			},
		},
		"paused": {
			want:       paused,
			conditions: []metav1.Condition{notReady(v1alpha1.ReasonRolloutPaused), accepted, noConflict},
		},
		"done": {
			want:       done,
			conditions: []metav1.Condition{ready(v1alpha1.ReasonAllNodesReady), accepted, noConflict},
		},
		"no nodes": {
			want:       done,
			conditions: []metav1.Condition{ready(v1alpha1.ReasonNoMatchingNodes), accepted, noConflict},
		},
		"done, and it has the nodes that another one wants": {
			want: done,
			conditions: []metav1.Condition{
				ready(v1alpha1.ReasonAllNodesReady), accepted,
				is(v1alpha1.ConditionConflicted, yes, v1alpha1.ReasonEqualPriorityOverlap),
			},
		},
	}
	for _, reason := range []string{
		v1alpha1.ReasonRolloutHalted, v1alpha1.ReasonRolledBack, v1alpha1.ReasonNodesFailed,
		v1alpha1.ReasonGuardNotEnforced, v1alpha1.ReasonNotAccepted, v1alpha1.ReasonConflicted,
	} {
		tests["stalled: "+reason] = situation{
			want:       doomed,
			conditions: []metav1.Condition{notReady(reason), stalled(reason), accepted, noConflict},
		}
	}

	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.observed == 0 {
				test.observed = generation
			}
			expect(t, &v1alpha1.ServiceProxyConfig{
				TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "ServiceProxyConfig"},
				ObjectMeta: metav1.ObjectMeta{Name: "default", Generation: generation},
				Status: v1alpha1.ServiceProxyConfigStatus{
					ObservedGeneration: test.observed, Conditions: test.conditions,
				},
			}, test.want)
		})
	}
}

func TestNodes(t *testing.T) {
	const yes, no, unknown = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	tests := map[string]situation{
		"just created": {observed: -1, want: onItsWay},
		"in sync with what it was assigned before": {
			observed: generation - 1, want: onItsWay,
			conditions: []metav1.Condition{func() metav1.Condition {
				old := is(v1alpha1.ConditionReady, yes, v1alpha1.ReasonSynced)
				old.ObservedGeneration--
				return old
			}()},
		},
		"first sync under way": {
			want:       onItsWay,
			conditions: []metav1.Condition{is(v1alpha1.ConditionReady, unknown, v1alpha1.ReasonPending)},
		},
		"in sync": {
			want:       done,
			conditions: []metav1.Condition{is(v1alpha1.ConditionReady, yes, v1alpha1.ReasonSynced)},
		},
		"in sync, with connections of another mode, beside kube-proxy": {
			want: done,
			conditions: []metav1.Condition{
				is(v1alpha1.ConditionReady, yes, v1alpha1.ReasonSynced),
				is(v1alpha1.ConditionDraining, yes, v1alpha1.ReasonConnectionsDraining),
				is(v1alpha1.ConditionForeignProxy, yes, v1alpha1.ReasonKubeProxyRulesFound),
			},
		},
		"released": {
			want: done,
			conditions: []metav1.Condition{
				is(v1alpha1.ConditionReady, yes, v1alpha1.ReasonReleased),
				is(v1alpha1.ConditionProgrammed, no, v1alpha1.ReasonReleased),
			},
		},
	}
	for _, reason := range []string{
		v1alpha1.ReasonApplyFailed, v1alpha1.ReasonVerifyFailed, v1alpha1.ReasonProbeFailed, // Programmed
		v1alpha1.ReasonBackendUnavailable, v1alpha1.ReasonKernelModuleMissing, v1alpha1.ReasonUnsupportedMode, // Accepted
	} {
		tests["failed: "+reason] = situation{
			want:       broken,
			conditions: []metav1.Condition{is(v1alpha1.ConditionReady, no, reason)},
		}
	}

	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.observed == 0 {
				test.observed = generation
			}
			expect(t, &v1alpha1.ServiceProxyNode{
				TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "ServiceProxyNode"},
				ObjectMeta: metav1.ObjectMeta{Name: "a", Generation: generation},
				Status: v1alpha1.ServiceProxyNodeStatus{
					ObservedGeneration: test.observed, Conditions: test.conditions,
				},
			}, test.want)
		})
	}
}

// expect compares what an object is read as, and that Argo CD shows the message of Ready to people.
func expect(t *testing.T, object runtime.Object, want verdict) {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	got, err := read(u)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	argo, err := argoHealth(u)
	if err != nil {
		t.Fatal(err)
	}
	conditions, _, _ := unstructured.NestedSlice(content, "status", "conditions")
	if observed, _, _ := unstructured.NestedInt64(content, "status", "observedGeneration"); observed != generation {
		if !strings.Contains(argo.message, "has not looked") {
			t.Errorf("Argo CD says %q of a generation that nobody has looked at", argo.message)
		}
	} else if reason := conditions[0].(map[string]any)["reason"].(string); !strings.Contains(argo.message, "because of "+reason) {
		t.Errorf("Argo CD says %q and not why: %s", argo.message, reason)
	}
}
