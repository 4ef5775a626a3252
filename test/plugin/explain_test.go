package plugin

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/install"
)

// What explain finds, test/explain tests; here is what needs agents that can be asked.
var _ = Describe("Explaining a Service by what agents say", func() {
	BeforeEach(func(ctx context.Context) {
		pool(ctx)
		serveExec(ctx)
		for _, node := range world.Nodes() {
			var pod corev1.Pod
			key := client.ObjectKey{Namespace: install.Namespace, Name: "service-proxy-agent-" + node.Name}
			Expect(world.Client().Get(ctx, key, &pod)).To(Succeed())
			before := pod.DeepCopy()
			pod.Status.Phase = corev1.PodRunning
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			Expect(world.Client().Status().Patch(ctx, &pod, client.MergeFrom(before))).To(Succeed())
		}
	})

	It("asks all of them, and says which does not answer", func(ctx context.Context) {
		Eventually(asking(ctx, "explain", "service", "kubernetes", "--agents")).Should(
			HavePrefix("0: Service default/kubernetes: nothing is known that would keep clients from it.\n"))

		reachAt(ctx, world.Node("two"), 1)
		Eventually(asking(ctx, "explain", "service", "kubernetes", "--agents")).Should(And(
			HavePrefix("1: Service default/kubernetes: NodesBehind\n"),
			ContainSubstring("1 of 3 nodes may not hold what is asked for now: two: its agent does not answer: "),
			ContainSubstring("-> kubectl serviceproxy why two\n")))
		Expect(well(ctx, "explain", "service", "kubernetes")).To(ContainSubstring("nothing is known"), "nobody is asked")
	})
})
