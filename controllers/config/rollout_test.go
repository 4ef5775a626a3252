package config_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

var _ = Describe("a rollout", func() {
	var applied *v1alpha1.ServiceProxyConfig

	BeforeEach(func(ctx context.Context) {
		Expect(kube.DeleteAllOf(ctx, &appsv1.ControllerRevision{}, client.InNamespace(namespace))).To(Succeed())
	})

	// begin makes three nodes that run the first settings, and a config with a canary of one.
	begin := func(ctx context.Context, adjust func(*v1alpha1.ServiceProxyConfigSpec)) {
		GinkgoHelper()
		for _, name := range []string{"a", "b", "c"} {
			makeNode(ctx, name, nil)
		}
		applied = applyConfig(ctx, "default", 0, nil)
		sync(ctx, "a", "b", "c")
		Eventually(conditions(ctx, "default")).Should(ContainElement(readyAll))
		change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) {
			c.Spec.Rollout.MaxUnavailable = new(intstr.FromInt32(1))
			c.Spec.Rollout.Canary = v1alpha1.Canary{Nodes: 1, BakeSeconds: new(int32(2))}
			adjust(&c.Spec)
		})
	}
	nothing := func(*v1alpha1.ServiceProxyConfigSpec) {}
	apply := func(ctx context.Context, interval int32) {
		GinkgoHelper()
		change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) { c.Spec.Sync.FullIntervalSeconds = &interval })
	}
	having := func(ctx context.Context, interval int32) func() []string {
		return func() []string {
			var names []string
			for _, name := range []string{"a", "b", "c"} {
				if got := getObject(ctx, name).Spec.Sync.FullIntervalSeconds; got != nil && *got == interval {
					names = append(names, name)
				}
			}
			return names
		}
	}

	It("halts when the canary fails, names node and cause, and goes through with settings that are put right", func(ctx context.Context) {
		startOperator()
		begin(ctx, nothing)
		apply(ctx, 60)
		Eventually(having(ctx, 60)).Should(ConsistOf("a"))
		Eventually(conditions(ctx, "default")).Should(ConsistOf("Ready=False RollingOut", "Reconciling=True Canary", accepted, noConflict))
		report(ctx, "a", func(object *v1alpha1.ServiceProxyNode) {
			object.Status.FailedRevision = object.Spec.Revision
			setCondition(object, v1alpha1.ConditionRolledBack, metav1.ConditionTrue, v1alpha1.ReasonProbeFailed, "probe web: timed out")
			setCondition(object, v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, "")
			setCondition(object, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, "")
		})
		Eventually(conditions(ctx, "default")).Should(ConsistOf("Ready=False RolloutHalted", "Stalled=True RolloutHalted", accepted, noConflict))
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(applied), applied)).To(Succeed())
		Expect(applied.Status.FailedNodes).To(ConsistOf(v1alpha1.FailedNode{
			Name: "a", Reason: v1alpha1.ReasonProbeFailed, Message: "probe web: timed out",
		}))
		Expect(applied.Status.Halted.Revision).To(Equal(applied.Status.UpdateRevision))
		Eventually(events(ctx, applied)).Should(ContainElement("Warning RolloutHalted"))
		Expect([]int64{getObject(ctx, "b").Generation, getObject(ctx, "c").Generation}).To(Equal([]int64{1, 1}), "never touched")

		apply(ctx, 90)
		Eventually(having(ctx, 90)).Should(ConsistOf("a"))
		sync(ctx, "a")
		Eventually(having(ctx, 90)).Should(ConsistOf("a", "b"))
		sync(ctx, "b")
		Eventually(having(ctx, 90)).Should(ConsistOf("a", "b", "c"))
		sync(ctx, "c")
		Eventually(conditions(ctx, "default")).Should(ConsistOf(readyAll, accepted, noConflict))
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(applied), applied)).To(Succeed())
		Expect(applied.Status.CurrentRevision).To(Equal(applied.Status.UpdateRevision))
		Expect(applied.Status.Halted).To(BeNil())
	})

	It("takes a pool back to settings that are read from their revision", func(ctx context.Context) {
		startOperator()
		begin(ctx, func(spec *v1alpha1.ServiceProxyConfigSpec) {
			spec.Rollout.OnFailure, spec.Rollout.Canary = v1alpha1.OnFailureRollback, v1alpha1.Canary{}
		})
		startFleet(ctx, 10*time.Millisecond, 1)
		apply(ctx, badInterval)
		Eventually(conditions(ctx, "default")).Should(ContainElement("Stalled=True RolledBack"))
		Eventually(having(ctx, badInterval)).Should(BeEmpty())
		Expect(getObject(ctx, "a").Spec.Sync).To(BeZero())
		var history appsv1.ControllerRevisionList
		Expect(kube.List(ctx, &history, client.InNamespace(namespace))).To(Succeed())
		Expect(history.Items).To(HaveLen(2))
		Expect(history.Items[0].Labels).To(HaveKeyWithValue(v1alpha1.LabelConfig, "default"))

		Expect(kube.Delete(ctx, applied)).To(Succeed())
		for _, name := range []string{"a", "b", "c"} {
			Expect(kube.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
			object := &v1alpha1.ServiceProxyNode{ObjectMeta: metav1.ObjectMeta{Name: name}}
			Expect(client.IgnoreNotFound(kube.Delete(ctx, object))).To(Succeed())
		}
		Eventually(func() ([]appsv1.ControllerRevision, error) {
			err := kube.List(ctx, &history, client.InNamespace(namespace))
			return history.Items, err
		}).Should(BeEmpty(), "with the config and its nodes the history goes")
	})

	It("tries a node again when the annotation says so", func(ctx context.Context) {
		startOperator()
		begin(ctx, nothing)
		apply(ctx, 60)
		Eventually(having(ctx, 60)).Should(ConsistOf("a"))
		before := getObject(ctx, "a")
		report(ctx, "a", func(object *v1alpha1.ServiceProxyNode) {
			setCondition(object, v1alpha1.ConditionRolledBack, metav1.ConditionTrue, v1alpha1.ReasonApplyFailed, "")
		})
		Eventually(conditions(ctx, "default")).Should(ContainElement("Stalled=True RolloutHalted"))
		change(ctx, applied, func(c *v1alpha1.ServiceProxyConfig) {
			c.Annotations = map[string]string{v1alpha1.AnnotationRetry: "1"}
		})
		Eventually(func() bool { return getObject(ctx, "a").UID != before.UID }).Should(BeTrue(), "what an agent gave up comes anew")
		sync(ctx, "a")
		Eventually(having(ctx, 60)).Should(ConsistOf("a", "b"))
	})

	It("waits while the agents are being updated", func(ctx context.Context) {
		startOperator()
		begin(ctx, nothing)
		labels := map[string]string{"app.kubernetes.io/name": "service-proxy", "app.kubernetes.io/component": "agent"}
		agents := &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "service-proxy-agent"},
			Spec: appsv1.DaemonSetSpec{
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "agent"}}},
				},
			},
		}
		Expect(kube.Create(ctx, agents)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(kube.Delete(ctx, agents)).To(Succeed()) })
		agents.Status = appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 1}
		Expect(kube.Status().Update(ctx, agents)).To(Succeed())
		apply(ctx, 60)
		Eventually(conditions(ctx, "default")).Should(ContainElement("Reconciling=True WaitingForNodes"))
		Consistently(having(ctx, 60)).WithTimeout(time.Second).Should(BeEmpty())

		agents.Status.UpdatedNumberScheduled = 3
		Expect(kube.Status().Update(ctx, agents)).To(Succeed())
		Eventually(having(ctx, 60)).Should(ConsistOf("a"))
	})

	It("does not go on while the agent of another node is down", func(ctx context.Context) {
		startOperator()
		begin(ctx, nothing)
		agent := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: "agent-of-b",
				Labels: map[string]string{"app.kubernetes.io/name": "service-proxy", "app.kubernetes.io/component": "agent"},
			},
			Spec: corev1.PodSpec{NodeName: "b", Containers: []corev1.Container{{Name: "agent", Image: "agent"}}},
		}
		Expect(kube.Create(ctx, agent)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(kube.Delete(ctx, agent, client.GracePeriodSeconds(0))).To(Succeed()) })
		is := func(status corev1.ConditionStatus) {
			agent.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
			Expect(kube.Status().Update(ctx, agent)).To(Succeed())
		}
		is(corev1.ConditionFalse)
		goesOn := time.After(5 * time.Second) // the operator has heard of the Pod by then
		Eventually(goesOn).Should(Receive())
		apply(ctx, 60)
		Eventually(func(g Gomega) {
			g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(applied), applied)).To(Succeed())
			g.Expect(applied.Status.Conditions).To(ContainElement(HaveField("Message", ContainSubstring("node b is"))))
		}).Should(Succeed())
		Expect(having(ctx, 60)()).To(BeEmpty())
		is(corev1.ConditionTrue)
		Eventually(having(ctx, 60)).Should(ConsistOf("a"))
	})

	It("gives everything back when its config says so and is gone", func(ctx context.Context) {
		stop := startOperator()
		begin(ctx, func(spec *v1alpha1.ServiceProxyConfigSpec) { spec.OnRelease = v1alpha1.ReleaseCleanup })
		Eventually(func(g Gomega) {
			var history appsv1.ControllerRevisionList
			g.Expect(kube.List(ctx, &history, client.InNamespace(namespace))).To(Succeed())
			g.Expect(history.Items).To(ConsistOf(HaveField("Annotations",
				HaveKeyWithValue("serviceproxy.io/on-release", string(v1alpha1.ReleaseCleanup)))))
		}).Should(Succeed())
		Expect(kube.Delete(ctx, applied)).To(Succeed())
		Eventually(func() map[string]string { return getObject(ctx, "a").Annotations }).
			Should(HaveKeyWithValue("serviceproxy.io/wanted-by", HavePrefix("/")), "no config wants it")
		Consistently(func() v1alpha1.Action { return getObject(ctx, "a").Spec.Action }).Should(BeEmpty())
		stop()
		startOperatorWith(server, ahead{by: time.Minute})
		Eventually(func() v1alpha1.Action { return getObject(ctx, "a").Spec.Action }).Should(Equal(v1alpha1.ActionRelease))
	})
})

// ahead is a clock of a time to come.
type ahead struct {
	clock.RealClock
	by time.Duration
}

func (a ahead) Now() time.Time { return a.RealClock.Now().Add(a.by) }
