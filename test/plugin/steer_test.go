package plugin

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

var _ = Describe("How people steer a pool", func() {
	It("is to pause a rollout, and to resume it", func(ctx context.Context) {
		pool(ctx)
		Expect(well(ctx, "pause", "default", "--dry-run=server")).To(ContainSubstring("paused; 3 of 3 nodes run the settings that it has (server dry run: nothing was changed)"))
		Expect(config(ctx).Spec.Rollout.State).To(BeEmpty())

		Expect(well(ctx, "pause", "default")).To(Equal("  spec.rollout.state: (unset) -> Paused\n" +
			"pool default: paused; 3 of 3 nodes run the settings that it has\nundo: kubectl serviceproxy resume default\n"))
		Expect(well(ctx, "pause", "default")).To(ContainSubstring("pool default: is paused already"))
		set(ctx, `{"sync": {"fullIntervalSeconds": 60}}`)
		Eventually(asking(ctx, "status")).Should(And(HavePrefix("1: Look here: 1 warning"),
			ContainSubstring("WARNING RolloutPaused on pool default"), ContainSubstring("-> kubectl serviceproxy resume default")))
		Expect(ask(ctx, "why", "one")).To(And(HaveField("Status", 1),
			HaveField("Out", ContainSubstring("Node one: Paused: spec.rollout.state of its config is Paused."))))

		type result struct {
			Action  string
			Changes []struct{ Path, Before, After string }
			Undo    string
		}
		Expect(decode[result](well(ctx, "resume", "default", "-o", "json"))).To(Equal(result{
			Action: "resume", Changes: []struct{ Path, Before, After string }{{"spec.rollout.state", "Paused", ""}},
			Undo: "kubectl serviceproxy pause default"}))
		Eventually(asking(ctx, "status")).Should(HavePrefix("0: All is well"))
		Expect(well(ctx, "resume", "default")).To(ContainSubstring("pool default: is not paused"))
	})

	It("is to look at a bad change, try it again, and take it back", func(ctx context.Context) {
		pool(ctx)
		good := config(ctx).Status.CurrentRevision
		set(ctx, fmt.Sprintf(`{"masquerade": {"bit": %d}}`, firewallBit))
		Eventually(asking(ctx, "status")).Should(And(HavePrefix("1: Not well: 2 errors; 2 of 3 nodes in sync"),
			ContainSubstring("ERROR ProbeFailed on 1 node: "), ContainSubstring("ERROR RolloutHalted on pool default"),
			ContainSubstring("-> kubectl serviceproxy rollback default  # to "+good)))
		bad := config(ctx).Status
		failed := bad.FailedNodes[0].Name
		Expect(ask(ctx, "why", failed)).To(And(HaveField("Status", 1), HaveField("Out", And(
			ContainSubstring("Node "+failed+": Failed: ProbeFailed: "),
			MatchRegexp(`given +`+bad.UpdateRevision), MatchRegexp(`runs +`+good+`, in mode iptables`),
			MatchRegexp(`took back +`+bad.UpdateRevision)))))

		// It fails again: the cause is still there.
		Expect(well(ctx, "retry", "default")).To(ContainSubstring("pool default: is tried again, first on " + failed))
		Eventually(func() string {
			halted := config(ctx).Status.Halted
			if halted == nil {
				return ""
			}
			return halted.Retry
		}).Should(Equal(config(ctx).Annotations[v1alpha1.AnnotationRetry]))

		for _, dry := range []string{"client", "server"} {
			Expect(well(ctx, "rollback", "default", "--dry-run="+dry)).To(And(ContainSubstring("  spec.masquerade.bit: 20 -> 14\n"),
				MatchRegexp(`pool default: goes back to revision `+good+` \(number \d+\) \(`+dry+` dry run: nothing was changed\)`)))
			Expect(config(ctx).Spec.Masquerade.Bit).To(HaveValue(BeEquivalentTo(firewallBit)))
		}
		Expect(ask(ctx, "rollback", "default", "--to-revision", "none").ErrOut).To(
			MatchRegexp(`pool default has no revision "none"; it has ` + bad.UpdateRevision + ` \(number \d+\), ` + good + ` \(number \d+\)`))
		Expect(well(ctx, "rollback", "default")).To(And(ContainSubstring("  spec.masquerade.bit: 20 -> 14\n"),
			ContainSubstring("undo: kubectl serviceproxy rollback default --to-revision "+bad.UpdateRevision)))
		Eventually(asking(ctx, "status")).Should(HavePrefix("0: All is well"))
		Expect(config(ctx).Status.CurrentRevision).To(Equal(good))
		Expect(well(ctx, "retry", "default")).To(ContainSubstring("there is nothing to try again"))
		Expect(well(ctx, "rollback", "default", "--to-revision", good)).To(ContainSubstring("has the settings of revision " + good + " already"))
	})

	It("is to change Git where Git keeps the pool", func(ctx context.Context) {
		// What the kustomize-controller of Flux does: labels, and an apply by its own field manager.
		pool(ctx, "--field-manager=kustomize-controller")
		kubectl(ctx, "label", "spc", "default", "kustomize.toolkit.fluxcd.io/name=configs", "kustomize.toolkit.fluxcd.io/namespace=flux-system")
		Expect(well(ctx, "pause", "default")).NotTo(ContainSubstring("WARNING"), "spec.rollout.state is not in Git, and Flux leaves it alone")
		Expect(well(ctx, "resume", "default")).NotTo(ContainSubstring("WARNING"))

		set(ctx, `{"masquerade": {"bit": 15}}`)
		kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=120s", "spc/default")
		kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--filename=testdata/default.yaml", "--field-manager=kustomize-controller")
		kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=120s", "spc/default")
		Expect(well(ctx, "rollback", "default", "--dry-run=client")).To(And(
			ContainSubstring("WARNING Flux (Kustomization flux-system/configs) keeps this pool as it is in Git and will undo the change of spec.masquerade.bit."),
			ContainSubstring("flux suspend kustomization configs -n flux-system"),
			ContainSubstring("  spec.masquerade.bit: 14 -> 15\n")))
	})
})
