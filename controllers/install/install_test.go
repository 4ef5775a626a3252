package install_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/install"
)

// installed returns the objects that an operator installs, by their names only.
func installed() []client.Object {
	return []client.Object{
		&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: install.AgentName}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: install.APIServersName}},
		&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: install.GuardName}},
		&admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: install.GuardName}},
	}
}

var _ = Describe("the installation", func() {
	BeforeEach(func() { DeferCleanup(uninstall) })

	It("puts the guard into force, and then starts agents", func(ctx context.Context) {
		o := startOperator(clock.RealClock{}, agents(), func(r *install.Reconciler) { r.APIServers = []string{"lb.example.com:6443"} })
		Eventually(daemonSet).WithArguments(ctx).ShouldNot(BeNil())
		Expect(o.guard.Problem()).To(BeEmpty())

		for _, object := range installed() {
			Expect(kube.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Succeed())
			Expect(object.GetOwnerReferences()).To(ConsistOf(
				HaveField("Name", "serviceproxynodes.serviceproxy.io")), "everything goes with the CRD")
		}
		agents := installed()[0]
		policy := installed()[3]
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(agents), agents)).To(Succeed())
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(policy), policy)).To(Succeed())
		Expect(policy.GetCreationTimestamp().Time).NotTo(BeTemporally(">", agents.GetCreationTimestamp().Time))

		servers := installed()[1].(*corev1.ConfigMap)
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(servers), servers)).To(Succeed())
		lan := world.ControlPlane().IPv4.String() + ":6443"
		Expect(servers.Data).To(Equal(map[string]string{"addresses": "lb.example.com:6443," + lan}))
	})

	It("puts right what others change, and makes anew what they delete", func(ctx context.Context) {
		startOperator(clock.RealClock{}, agents())
		Eventually(daemonSet).WithArguments(ctx).ShouldNot(BeNil())
		for _, object := range installed() {
			Expect(kube.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Succeed())
			before := object.GetUID()
			Expect(kube.Delete(ctx, object)).To(Succeed())
			Eventually(func() (string, error) {
				err := kube.Get(ctx, client.ObjectKeyFromObject(object), object)
				return string(object.GetUID()), client.IgnoreNotFound(err)
			}).ShouldNot(BeElementOf("", string(before)), "%T", object)
		}
		Eventually(daemonSet).WithArguments(ctx).ShouldNot(BeNil())
		changed, err := daemonSet(ctx)
		Expect(err).NotTo(HaveOccurred())
		changed.Spec.Template.Spec.Containers[0].Image = "registry.example.com/other"
		Expect(kube.Update(ctx, changed)).To(Succeed())
		Eventually(func() (string, error) {
			now, err := daemonSet(ctx)
			if err != nil || now == nil {
				return "", err
			}
			return now.Spec.Template.Spec.Containers[0].Image, nil
		}).Should(Equal(image))
	})

	It("restarts no agent when API servers come and go", func(ctx context.Context) {
		startOperator(clock.RealClock{}, agents())
		Eventually(daemonSet).WithArguments(ctx).ShouldNot(BeNil())
		before, err := daemonSet(ctx)
		Expect(err).NotTo(HaveOccurred())

		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(slice), slice)).To(Succeed())
		published := slice.DeepCopy()
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}})
		Expect(kube.Update(ctx, slice)).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			published.ResourceVersion = ""
			Expect(kube.Update(ctx, published)).To(Succeed()) // before the API server does
		})

		servers := &corev1.ConfigMap{}
		Eventually(func() (string, error) {
			err := kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: install.APIServersName}, servers)
			return servers.Data["addresses"], err
		}).Should(ContainSubstring("192.0.2.1:6443"))
		Consistently(func() (int64, error) {
			now, err := daemonSet(ctx)
			return now.Generation, err
		}).WithTimeout(time.Second).Should(Equal(before.Generation))
	})

	It("leaves the agents to others when told to, and guards theirs", func(ctx context.Context) {
		startOperator(clock.RealClock{}, nil)
		policy := installed()[3]
		Eventually(kube.Get).WithArguments(ctx, client.ObjectKeyFromObject(policy), policy).Should(Succeed())
		Consistently(daemonSet).WithArguments(ctx).WithTimeout(2 * time.Second).Should(BeNil())
	})

	It("writes nothing while nothing changes", func(ctx context.Context) {
		startOperator(clock.RealClock{}, agents())
		Eventually(daemonSet).WithArguments(ctx).ShouldNot(BeNil())
		versions := func() []string {
			var all []string
			for _, object := range installed() {
				if kube.Get(ctx, client.ObjectKeyFromObject(object), object) == nil {
					all = append(all, object.GetResourceVersion())
				}
			}
			return all
		}
		var before []string
		Eventually(func() bool {
			then := before
			before = versions()
			return len(before) == 4 && len(then) == 4 && then[0] == before[0] && then[3] == before[3]
		}).WithPolling(time.Second).Should(BeTrue())
		Consistently(versions).WithTimeout(3 * time.Second).Should(Equal(before))
	})
})

var _ = Describe("a guard that is not in force", func() {
	BeforeEach(func() { DeferCleanup(uninstall) })

	// weaken lets a policy be made whose force others have taken, before an operator comes.
	weaken := func(ctx context.Context, edit func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding)) {
		GinkgoHelper()
		o := startOperator(clock.RealClock{}, nil)
		policy, binding := installed()[3].(*admissionv1.ValidatingAdmissionPolicy), installed()[2].(*admissionv1.ValidatingAdmissionPolicyBinding)
		Eventually(kube.Get).WithArguments(ctx, client.ObjectKeyFromObject(policy), policy).Should(Succeed())
		Eventually(kube.Get).WithArguments(ctx, client.ObjectKeyFromObject(binding), binding).Should(Succeed())
		o.stop()
		Eventually(func() error {
			for _, object := range []client.Object{policy, binding} {
				if err := kube.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
					return err
				}
			}
			edit(policy, binding)
			if err := kube.Update(ctx, policy); err != nil {
				return err
			}
			return kube.Update(ctx, binding)
		}).Should(Succeed())
	}

	DescribeTable("starts no agent, and every config says why", func(
		ctx context.Context, edit func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding), why string,
	) {
		applied := &v1alpha1.ServiceProxyConfig{
			ObjectMeta: metav1.ObjectMeta{Name: "default"},
			Spec: v1alpha1.ServiceProxyConfigSpec{
				NodeSelector: &v1alpha1.NodeSelector{}, ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
			},
		}
		weaken(ctx, edit)
		clk := clocktesting.NewFakePassiveClock(time.Now())
		o := startOperator(clk, agents())
		Expect(kube.Create(ctx, applied)).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			Expect(kube.Delete(ctx, applied)).To(Succeed())
			Expect(kube.DeleteAllOf(ctx, &v1alpha1.ServiceProxyNode{})).To(Succeed())
		})
		Consistently(o.guard.Problem).WithTimeout(2*time.Second).Should(BeEmpty(), "a guard has a moment to come into force")
		clk.SetTime(clk.Now().Add(time.Minute))
		Eventually(o.guard.Problem).Should(ContainSubstring(why))
		for _, condition := range []string{"Ready=False", "Stalled=True"} {
			Eventually(said(ctx, "default")).Should(ContainElement(SatisfyAll(
				HavePrefix(condition+" GuardNotEnforced: "), ContainSubstring(why))))
		}
		Expect(daemonSet(ctx)).To(BeNil())

		By("starting them once the policy was deleted, as the message says")
		for _, object := range installed()[2:] {
			Expect(kube.Delete(ctx, object)).To(Succeed())
		}
		Eventually(daemonSet).WithArguments(ctx).ShouldNot(BeNil())
		Expect(o.guard.Problem()).To(BeEmpty())
		Eventually(said(ctx, "default")).ShouldNot(ContainElement(ContainSubstring("GuardNotEnforced")))
	},
		Entry("because of a condition that is never met",
			func(p *admissionv1.ValidatingAdmissionPolicy, _ *admissionv1.ValidatingAdmissionPolicyBinding) {
				p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionv1.MatchCondition{Name: "never", Expression: "false"})
			}, "somebody has added to ValidatingAdmissionPolicy"),
		Entry("because of a binding to other objects",
			func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
				b.Spec.MatchResources = &admissionv1.MatchResources{
					ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"guarded": "yes"}},
				}
			}, "somebody has added to ValidatingAdmissionPolicyBinding"),
	)

	It("is told when the operator may not make it", func(ctx context.Context) {
		clk := clocktesting.NewFakePassiveClock(time.Now())
		_, err := world.Kubectl(ctx, "patch", "clusterrole", operatorAccount, "--type=json",
			`--patch=[{"op":"test","path":"/rules/5/apiGroups/0","value":"admissionregistration.k8s.io"},`+
				`{"op":"replace","path":"/rules/5/verbs","value":["get","list","watch"]}]`)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) {
			_, err := world.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--filename=../../config/rbac/operator.yaml")
			Expect(err).NotTo(HaveOccurred())
		})
		o := startOperator(clk, agents())
		Eventually(func() string {
			clk.SetTime(clk.Now().Add(time.Second))
			return o.guard.Problem()
		}).Should(And(ContainSubstring("applying the guard policy"), ContainSubstring("forbidden")))
		Expect(daemonSet(ctx)).To(BeNil())
	})
})

// said returns a function that says the conditions of a config.
func said(ctx context.Context, name string) func() ([]string, error) {
	return func() ([]string, error) {
		config := &v1alpha1.ServiceProxyConfig{}
		if err := kube.Get(ctx, client.ObjectKey{Name: name}, config); err != nil {
			return nil, err
		}
		var all []string
		for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
			if c := meta.FindStatusCondition(config.Status.Conditions, kind); c != nil {
				all = append(all, kind+"="+string(c.Status)+" "+c.Reason+": "+c.Message)
			}
		}
		return all, nil
	}
}
