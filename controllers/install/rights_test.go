package install_test

import (
	"context"
	"encoding/json"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/install"
)

var _ = Describe("the rights of an agent", Ordered, func() {
	BeforeAll(func(ctx context.Context) {
		o := startOperator(clock.RealClock{}, agents())
		Eventually(daemonSet).WithArguments(ctx).ShouldNot(BeNil(), "then the guard is in force")
		o.stop()
		for _, name := range []string{"a", "b"} {
			Expect(kube.Create(ctx, object(name))).To(Succeed())
		}
		DeferCleanup(func(ctx context.Context) {
			Expect(kube.DeleteAllOf(ctx, &v1alpha1.ServiceProxyNode{})).To(Succeed())
			uninstall(ctx)
		})
	})

	It("are to report on its own node", func(ctx context.Context) {
		agent := as(asAgents["a"])
		Expect(agent.Status().Patch(ctx, object("a"), statusPatch("r1"), asManager)).To(Succeed())
		now := object("a")
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(now), now)).To(Succeed())
		Expect(now.Status.AppliedRevision).To(Equal("r1"))
	})

	It("do not let a report change anything but status", func(ctx context.Context) {
		before, after := object("a"), object("a")
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(before), before)).To(Succeed())
		patch := client.RawPatch("application/apply-patch+yaml", []byte(
			`{"apiVersion":"serviceproxy.io/v1alpha1","kind":"ServiceProxyNode","metadata":{"name":"a","labels":{"mine":"yes"}},`+
				`"spec":{"revision":"mine"},"status":{"appliedRevision":"r2"}}`))
		Expect(as(asAgents["a"]).Status().Patch(ctx, object("a"), patch, asManager, client.ForceOwnership)).To(Succeed())
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(after), after)).To(Succeed())
		Expect(after.Spec).To(Equal(before.Spec))
		Expect(after.Labels).To(Equal(before.Labels))
	})

	DescribeTable("are not to write", func(ctx context.Context, write func(context.Context, client.Client) error, why string) {
		err := write(ctx, as(asAgents["a"]))
		Expect(apierrors.IsForbidden(err)).To(BeTrue(), "got %v", err)
		Expect(err).To(MatchError(ContainSubstring(why)))
	},
		Entry("the status of another node", func(ctx context.Context, agent client.Client) error {
			return agent.Status().Patch(ctx, object("b"), statusPatch("r1"), asManager)
		}, "an agent may write to the ServiceProxyNode of its own node, and to no other"),
		Entry("the spec of its own node", func(ctx context.Context, agent client.Client) error {
			return agent.Patch(ctx, object("a"), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"revision":"mine"}}`)))
		}, `cannot patch resource "serviceproxynodes"`),
		Entry("an object of its own", func(ctx context.Context, agent client.Client) error {
			return agent.Create(ctx, object("c"))
		}, `cannot create resource "serviceproxynodes"`),
		Entry("its own node's object away", func(ctx context.Context, agent client.Client) error {
			return agent.Delete(ctx, object("a"))
		}, `cannot delete resource "serviceproxynodes"`),
	)

	It("do not grow with RBAC: the guard holds also where somebody grants them everything", func(ctx context.Context) {
		_, err := world.Kubectl(ctx, "create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin",
			"--serviceaccount="+namespace+":"+install.AgentName)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) {
			_, err := world.Kubectl(ctx, "delete", "clusterrolebinding", "too-much")
			Expect(err).NotTo(HaveOccurred())
		})
		agent := as(asAgents["a"])
		const onlyStatus = "an agent may write the status of a ServiceProxyNode, and nothing else of it"
		Eventually(func() error { return agent.Delete(ctx, object("a")) }).Should(MatchError(ContainSubstring(onlyStatus)))
		Expect(agent.Create(ctx, object("c"))).To(MatchError(ContainSubstring(onlyStatus)))
		Expect(agent.DeleteAllOf(ctx, &v1alpha1.ServiceProxyNode{})).To(MatchError(ContainSubstring(onlyStatus)))
		Expect(agent.Patch(ctx, object("a"), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"revision":"mine"}}`)))).
			To(MatchError(ContainSubstring(onlyStatus)))
		Expect(agent.Status().Patch(ctx, object("a"), statusPatch("r3"), asManager)).To(Succeed())
	})

	It("are none with a token that is not bound to a Pod", func(ctx context.Context) {
		file, err := world.ServiceAccountKubeconfig(ctx, namespace, install.AgentName)
		Expect(err).NotTo(HaveOccurred())
		err = as(accessFrom(file)).Status().Patch(ctx, object("a"), statusPatch("r1"), asManager)
		Expect(err).To(MatchError(ContainSubstring("an agent must use the token of its Pod")))
		Expect(apierrors.IsForbidden(err)).To(BeTrue())
	})

	It("do not keep others from writing", func(ctx context.Context) {
		Expect(as(asOperator).Patch(ctx, object("b"), client.RawPatch("application/merge-patch+json",
			[]byte(`{"spec":{"revision":"next"}}`)))).To(Succeed())
		Expect(kube.Status().Patch(ctx, object("b"), statusPatch("r1"), asManager)).To(Succeed())
	})
})

// asManager is the field manager of what specs apply.
const asManager = client.FieldOwner("spec")

func as(access *rest.Config) client.Client {
	GinkgoHelper()
	c, err := client.New(access, client.Options{Scheme: kube.Scheme()})
	Expect(err).NotTo(HaveOccurred())
	return c
}

func object(name string) *v1alpha1.ServiceProxyNode {
	return &v1alpha1.ServiceProxyNode{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.ServiceProxyNodeSpec{
			ConfigRef: v1alpha1.ConfigReference{Name: "default", Generation: new(int64(1))}, Revision: "default-1",
			ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
		},
	}
}

func statusPatch(revision string) client.Patch {
	text, err := json.Marshal(map[string]any{"status": map[string]any{"appliedRevision": revision}})
	Expect(err).NotTo(HaveOccurred())
	return client.RawPatch("application/merge-patch+json", text)
}
