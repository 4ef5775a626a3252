package config_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

const (
	readyAll   = "Ready=True AllNodesReady"
	accepted   = "Accepted=True Valid"
	noConflict = "Conflicted=False NoOverlap"
)

var _ = Describe("the operator", func() {
	edge := map[string]string{"role": "edge"}

	It("assigns every node and is Ready once all agents are", func(ctx context.Context) {
		startOperator()
		a := makeNode(ctx, "a", nil)
		makeNode(ctx, "b", nil)
		applied := applyConfig(ctx, "default", 0, nil)

		object := getObject(ctx, "a")
		Expect(object.Labels).To(HaveKeyWithValue(v1alpha1.LabelConfig, "default"))
		Expect(object.OwnerReferences).To(ConsistOf(metav1.OwnerReference{
			APIVersion: "v1", Kind: "Node", Name: "a", UID: a.UID,
		}))
		Expect(object.Spec).To(Equal(v1alpha1.ServiceProxyNodeSpec{
			ConfigRef:     v1alpha1.ConfigReference{Name: "default", Generation: &applied.Generation},
			Revision:      object.Spec.Revision,
			ProxySettings: applied.Spec.ProxySettings,
		}))
		Expect(object.Status.ObservedGeneration).To(BeEquivalentTo(-1), "until an agent has looked")
		Eventually(conditions(ctx, "default")).Should(ConsistOf(
			"Ready=False RollingOut", "Reconciling=True RollingOut", accepted, noConflict))

		sync(ctx, "a", "b")
		Eventually(conditions(ctx, "default")).Should(ConsistOf(readyAll, accepted, noConflict))
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(applied), applied)).To(Succeed())
		Expect(applied.Status.UpdateRevision).To(Equal(object.Spec.Revision))
		Expect(applied.Status.Nodes).To(HaveValue(Equal(v1alpha1.NodeCounts{
			Matched: new(int32(2)), Overridden: new(int32(0)), Conflicted: new(int32(0)), Assigned: new(int32(2)),
			Updated: new(int32(2)), Ready: new(int32(2)), Unavailable: new(int32(0)), Failed: new(int32(0)),
		})))
		Eventually(events(ctx, applied)).Should(ConsistOf("Normal AllNodesReady"))
	})

	It("passes a failure on and lets other nodes be", func(ctx context.Context) {
		startOperator()
		makeNode(ctx, "a", nil)
		makeNode(ctx, "b", nil)
		applied := applyConfig(ctx, "default", 0, nil)
		sync(ctx, "a")
		report(ctx, "b", func(object *v1alpha1.ServiceProxyNode) {
			setCondition(object, v1alpha1.ConditionAccepted, metav1.ConditionFalse,
				v1alpha1.ReasonBackendUnavailable, "no working iptables was found")
		})
		Eventually(conditions(ctx, "default")).Should(ConsistOf(
			"Ready=False NodesFailed", "Stalled=True NodesFailed", accepted, noConflict))
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(applied), applied)).To(Succeed())
		Expect(applied.Status.FailedNodes).To(ConsistOf(v1alpha1.FailedNode{
			Name: "b", Reason: v1alpha1.ReasonBackendUnavailable, Message: "no working iptables was found",
		}))
		Expect(*applied.Status.Nodes.Ready).To(BeEquivalentTo(1))
		Eventually(events(ctx, applied)).Should(ConsistOf("Warning NodesFailed"))

		sync(ctx, "b")
		Eventually(conditions(ctx, "default")).Should(ConsistOf(readyAll, accepted, noConflict))
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(applied), applied)).To(Succeed())
		Expect(applied.Status.FailedNodes).To(BeEmpty())
	})

	It("gives a node to the highest priority, and to another when priorities or labels change", func(ctx context.Context) {
		startOperator()
		makeNode(ctx, "a", edge)
		b := makeNode(ctx, "b", nil)
		applyConfig(ctx, "default", 0, nil)
		pool := applyConfig(ctx, "edge", 10, edge)
		Eventually(holders(ctx, "a", "b")).Should(Equal(map[string]string{"a": "edge", "b": "default"}))

		change(ctx, b, func(node *corev1.Node) { node.Labels = edge })
		Eventually(holders(ctx, "a", "b")).Should(Equal(map[string]string{"a": "edge", "b": "edge"}))
		Eventually(conditions(ctx, "default")).Should(ConsistOf("Ready=True NoMatchingNodes", accepted, noConflict))

		generations := []int64{getObject(ctx, "a").Generation, getObject(ctx, "b").Generation}
		change(ctx, pool, func(c *v1alpha1.ServiceProxyConfig) { c.Spec.Priority = new(int32(20)) })
		Eventually(conditions(ctx, "edge")).Should(ContainElement(accepted))
		Expect([]int64{getObject(ctx, "a").Generation, getObject(ctx, "b").Generation}).To(Equal(generations),
			"another priority that changes no holder changes no node")

		Expect(kube.Delete(ctx, pool)).To(Succeed())
		Eventually(holders(ctx, "a", "b")).Should(Equal(map[string]string{"a": "default", "b": "default"}))
	})

	It("reports a tie to both, and the one that has the node keeps it", func(ctx context.Context) {
		startOperator()
		makeNode(ctx, "a", edge)
		applyConfig(ctx, "second", 5, edge)
		Expect(getObject(ctx, "a").Spec.ConfigRef.Name).To(Equal("second"))
		sync(ctx, "a")
		loser := applyConfig(ctx, "first", 5, edge)
		const tie = "Conflicted=True EqualPriorityOverlap"
		Eventually(conditions(ctx, "second")).Should(ConsistOf(readyAll, accepted, tie))
		Eventually(conditions(ctx, "first")).Should(ConsistOf(
			"Ready=False Conflicted", "Stalled=True Conflicted", accepted, tie))
		Expect(holders(ctx, "a")()).To(Equal(map[string]string{"a": "second"}))
		Eventually(events(ctx, loser)).Should(ConsistOf("Warning Conflicted"))

		change(ctx, loser, func(c *v1alpha1.ServiceProxyConfig) { c.Spec.Priority = new(int32(6)) })
		Eventually(holders(ctx, "a")).Should(Equal(map[string]string{"a": "first"}))
		Eventually(conditions(ctx, "second")).Should(ConsistOf("Ready=True NoMatchingNodes", accepted, noConflict))
	})

	It("leaves to nodes what they have when their config is deleted", func(ctx context.Context) {
		startOperator()
		makeNode(ctx, "a", nil)
		first := applyConfig(ctx, "first", 0, nil)
		before := getObject(ctx, "a")
		Expect(kube.Delete(ctx, first)).To(Succeed())
		other := applyConfig(ctx, "other", 0, edge) // the answer to it comes after the answer to the deletion
		Eventually(conditions(ctx, other.Name)).Should(ContainElement("Ready=True NoMatchingNodes"))
		Expect(getObject(ctx, "a")).To(Equal(before))
	})

	It("makes the object anew when a Node was rebuilt under its name", func(ctx context.Context) {
		startOperator()
		old := makeNode(ctx, "a", nil)
		applyConfig(ctx, "default", 0, nil)
		object := getObject(ctx, "a")
		sync(ctx, "a")
		Eventually(conditions(ctx, "default")).Should(ContainElement(readyAll))

		Expect(kube.Delete(ctx, old)).To(Succeed())
		rebuilt := makeNode(ctx, "a", nil)
		Eventually(func(g Gomega) {
			now := &v1alpha1.ServiceProxyNode{}
			g.Expect(kube.Get(ctx, client.ObjectKey{Name: "a"}, now)).To(Succeed())
			g.Expect(now.UID).NotTo(Equal(object.UID))
			g.Expect(now.OwnerReferences).To(HaveLen(1))
			g.Expect(now.OwnerReferences[0].UID).To(Equal(rebuilt.UID))
			g.Expect(now.Status.AppliedRevision).To(BeEmpty(), "what the old machine ran is history")
		}).Should(Succeed())
		Eventually(conditions(ctx, "default")).Should(ContainElement("Ready=False RollingOut"))
	})

	It("puts right what somebody else wrote into an assignment", func(ctx context.Context) {
		startOperator()
		makeNode(ctx, "a", nil)
		applyConfig(ctx, "default", 0, nil)
		want := getObject(ctx, "a")
		change(ctx, want.DeepCopy(), func(object *v1alpha1.ServiceProxyNode) {
			object.Spec.Sync.FullIntervalSeconds = new(int32(30))
			object.Spec.ConfigRef.Name = "theirs"
			object.Labels[v1alpha1.LabelConfig] = "theirs"
		})
		Eventually(func(g Gomega) {
			now := getObject(ctx, "a")
			g.Expect(now.Spec.ConfigRef.Name).To(Equal("default"))
			g.Expect(now.Labels).To(Equal(want.Labels))
		}).Should(Succeed())
	})

	It("writes all other nodes when one is refused", func(ctx context.Context) {
		refuse(ctx, "b")
		startOperator()
		makeNode(ctx, "a", nil)
		makeNode(ctx, "b", nil)
		makeNode(ctx, "c", nil)
		applyConfig(ctx, "default", 0, nil)
		Eventually(holders(ctx, "a", "b", "c")).Should(Equal(map[string]string{"a": "default", "c": "default"}))
		sync(ctx, "a", "c")
		Eventually(func(g Gomega) {
			now := &v1alpha1.ServiceProxyConfig{}
			g.Expect(kube.Get(ctx, client.ObjectKey{Name: "default"}, now)).To(Succeed())
			g.Expect(now.Status.Nodes).NotTo(BeNil())
			g.Expect(now.Status.Nodes.Ready).To(HaveValue(BeEquivalentTo(2)))
		}).Should(Succeed())
		Consistently(holders(ctx, "b")).WithTimeout(time.Second).Should(BeEmpty())
	})

	It("writes nothing while nothing happens, nor when it is restarted", func(ctx context.Context) {
		stop := startOperator()
		a := makeNode(ctx, "a", edge)
		makeNode(ctx, "b", nil)
		applyConfig(ctx, "default", 0, nil)
		applyConfig(ctx, "edge", 0, edge) // a conflict is a state like any other
		Eventually(holders(ctx, "a", "b")).Should(HaveLen(2))
		sync(ctx, "a", "b")
		Eventually(conditions(ctx, "default")).Should(ContainElement(readyAll))
		Eventually(conditions(ctx, "edge")).Should(ContainElement("Stalled=True Conflicted"))

		written := versions(ctx)
		Consistently(func() string { return versions(ctx) }).WithTimeout(3 * time.Second).Should(Equal(written))
		stop()
		startOperator()
		setReady(ctx, a, corev1.ConditionTrue) // a heartbeat
		Consistently(func() string { return versions(ctx) }).WithTimeout(3 * time.Second).Should(Equal(written))
	})

	It("reports seldom while many nodes get ready one by one", func(ctx context.Context) {
		startOperator()
		applyConfig(ctx, "default", 0, nil)
		names := make([]string, 30)
		for i := range names {
			names[i] = fmt.Sprintf("node-%d", i)
			makeNode(ctx, names[i], nil)
		}
		Eventually(holders(ctx, names...)).Should(HaveLen(len(names)))
		watched := &v1alpha1.ServiceProxyConfig{}
		seen := map[string]bool{}
		look := func() {
			Expect(kube.Get(ctx, client.ObjectKey{Name: "default"}, watched)).To(Succeed())
			seen[watched.ResourceVersion] = true
		}
		begin := time.Now()
		for _, name := range names {
			sync(ctx, name)
			look()
			Eventually(time.After(50 * time.Millisecond)).Should(Receive())
		}
		Eventually(func() []string { look(); return conditions(ctx, "default")() }).Should(ContainElement(readyAll))
		Expect(*watched.Status.Nodes.Ready).To(BeEquivalentTo(len(names)))
		// One at the beginning, one when all are Ready, and one every two seconds between.
		Expect(len(seen)).To(BeNumerically("<=", 3+int(time.Since(begin)/(2*time.Second))))
	})

	It("hands over to another operator when it ends", func(ctx context.Context) {
		elect := func(o *ctrl.Options) {
			o.LeaderElection = true
			o.LeaderElectionID = "service-proxy-operator"
			o.LeaderElectionNamespace = namespace
			o.LeaderElectionReleaseOnCancel = true
			o.RetryPeriod = new(200 * time.Millisecond)
		}
		stop := startOperator(elect)
		makeNode(ctx, "a", nil)
		applyConfig(ctx, "default", 0, nil)
		Expect(getObject(ctx, "a").Spec.ConfigRef.Name).To(Equal("default"))
		startOperator(elect)
		before := versions(ctx)
		stop()
		makeNode(ctx, "b", nil)
		Expect(getObject(ctx, "b").Spec.ConfigRef.Name).To(Equal("default"))
		Expect(before).To(ContainSubstring(getObject(ctx, "a").ResourceVersion), "the new leader has nothing to correct")
	})
})

// events returns a function that lists the events of a config.
func events(ctx context.Context, regarding *v1alpha1.ServiceProxyConfig) func() []string {
	return func() []string {
		var list eventsv1.EventList
		if err := kube.List(ctx, &list); err != nil {
			return []string{err.Error()}
		}
		var told []string
		for _, event := range list.Items {
			if event.Regarding.UID == regarding.UID {
				told = append(told, event.Type+" "+event.Reason)
			}
		}
		return told
	}
}

// versions returns the names and resource versions of everything that the operator writes.
func versions(ctx context.Context) string {
	GinkgoHelper()
	var configs v1alpha1.ServiceProxyConfigList
	Expect(kube.List(ctx, &configs)).To(Succeed())
	var objects v1alpha1.ServiceProxyNodeList
	Expect(kube.List(ctx, &objects)).To(Succeed())
	var text strings.Builder
	for _, c := range configs.Items {
		fmt.Fprintln(&text, c.Name, c.ResourceVersion)
	}
	for _, o := range objects.Items {
		fmt.Fprintln(&text, o.Name, o.ResourceVersion)
	}
	return text.String()
}

// refuse makes the API server refuse to create one ServiceProxyNode, and waits until it does.
func refuse(ctx context.Context, name string) {
	GinkgoHelper()
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "refuse"},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule: admissionv1.Rule{
						APIGroups: []string{v1alpha1.GroupName}, APIVersions: []string{"*"},
						Resources: []string{"serviceproxynodes"},
					},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: fmt.Sprintf("object.metadata.name != %q", name)}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "refuse"},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "refuse", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	for _, object := range []client.Object{policy, binding} {
		Expect(kube.Create(ctx, object)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(kube.Delete(ctx, object)).To(Succeed()) })
	}
	trial := &v1alpha1.ServiceProxyNode{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.ServiceProxyNodeSpec{
			ConfigRef:     v1alpha1.ConfigReference{Name: "trial", Generation: new(int64(1))},
			Revision:      "trial",
			ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
		},
	}
	Eventually(func() error { return kube.Create(ctx, trial.DeepCopy(), client.DryRunAll) }).
		Should(MatchError(ContainSubstring("denied")))
}
