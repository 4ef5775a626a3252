package boot

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// The metric that says what Services are programmed from.
const (
	fromMemory = `(?m)^serviceproxy_running_from_memory 1$`
	fromAPI    = `(?m)^serviceproxy_running_from_memory 0$`
)

// knowsWeb says whether a Service web with endpoints is among Services.
func knowsWeb(entries []catalog.Entry) bool {
	for _, e := range entries {
		if e.Name.Name == "web" && len(e.Slices) > 0 && len(e.Slices[0].Endpoints) == 2 {
			return true
		}
	}
	return false
}

var _ = Describe("A node that boots while the API server is away", func() {
	It("has the Services that it had, says so, and goes over without a gap to what the API server says", func(ctx SpecContext) {
		shutDown(ctx)
		isBack := isAway(ctx)
		start := time.Now()
		starts(ctx)
		Eventually(func() error { return asks(ctx) }).Should(Succeed())
		AddReportEntry("from the start of the agent to Services that work", time.Since(start).Round(time.Millisecond).String())
		Expect(metrics(ctx)()).To(MatchRegexp(fromMemory))
		Expect(healthz(ctx)()).To(And(HavePrefix("200 "), ContainSubstring(`"remembered":"`)))
		Expect(setup.Agent(node.Name).Tail(1000)).To(ContainSubstring("going on with what it said last"))

		stream := traffic.Open(ctx, pod.Host, "tcp", webAddress, 5*time.Millisecond)
		DeferCleanup(func() { stream.Stop() })
		isBack(ctx)
		start = time.Now()
		Eventually(metrics(ctx)).Should(MatchRegexp(fromAPI))
		AddReportEntry("from an API server that is ready to being in step with it", time.Since(start).Round(time.Millisecond).String())
		Expect(healthz(ctx)()).To(And(HavePrefix("200 "), Not(ContainSubstring("remembered"))))

		By("following again")
		_, err := world.KubectlApply(ctx, `
apiVersion: v1
kind: Service
metadata: {name: later}
spec:
  clusterIP: 10.96.0.81
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
`)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(world.Kubectl, "delete", "service", "later")
		Eventually(func() error {
			_, err := pod.Ask(ctx, "tcp", "10.96.0.81:80")
			return err
		}).Should(Succeed())
		Eventually(func() metav1.Condition { return condition(ctx, v1alpha1.ConditionProgrammed) }).Should(And(
			HaveField("Status", metav1.ConditionTrue), HaveField("Message", Not(ContainSubstring("since this agent started")))))
		tally := stream.Stop()
		Expect(tally.Failed).To(BeZero(), tally.String())
		Expect(tally.Opened).To(BeNumerically(">", 100), tally.String())
	}, SpecTimeout(5*time.Minute))

	It("waits for the API server where what is on disk is of another node or damaged, and says why", func(ctx SpecContext) {
		shutDown(ctx)
		s, err := state().Table()
		Expect(err).NotTo(HaveOccurred())
		s.NodeName = "other"
		Expect(state().SaveTable(s)).To(Succeed())
		isBack := isAway(ctx)
		starts(ctx)
		said := func() string { return setup.Agent(node.Name).Tail(1000) }
		Eventually(said).Should(ContainSubstring(`those that are remembered are of another node" of="other"`))
		Expect(asks(ctx)).NotTo(Succeed())
		Expect(setup.Agent(node.Name).Stop(ctx)).To(Succeed())

		path := filepath.Join(string(state()), "table")
		text, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		text[len(text)/2] ^= 1
		Expect(os.WriteFile(path, text, 0o600)).To(Succeed())
		starts(ctx)
		Eventually(said).Should(And(
			ContainSubstring("Waiting for the API server, without Services"), ContainSubstring(path+" is ignored: it is damaged")))
		Expect(asks(ctx)).NotTo(Succeed())
		Expect(metrics(ctx)()).To(MatchRegexp(fromAPI))
		Expect(os.ReadFile(path)).To(Equal(text), "the damaged file is evidence")

		isBack(ctx)
		Eventually(func() error { return asks(ctx) }).Should(Succeed())
		Eventually(func() error {
			_, err := state().Table()
			return err
		}).Should(Succeed(), "the damaged file is not replaced")
	}, SpecTimeout(5*time.Minute))

	It("leaves alone the rules that are still there", func(ctx SpecContext) {
		Expect(setup.Agent(node.Name).Stop(ctx)).To(Succeed())
		Expect(state().SaveTable(&catalog.Snapshot{Taken: time.Unix(0, 0)})).To(Succeed())
		isBack := isAway(ctx)
		starts(ctx)
		Eventually(metrics(ctx)).Should(ContainSubstring("serviceproxy_build_info"))
		Consistently(func() error { return asks(ctx) }).WithTimeout(6 * time.Second).WithPolling(100 * time.Millisecond).Should(Succeed())
		Expect(metrics(ctx)()).To(MatchRegexp(fromAPI))
		isBack(ctx)
	}, SpecTimeout(5*time.Minute))
})

var _ = Describe("A node that boots while the API server answers in part", func() {
	It("has the Services that it had, and says so in its status", func(ctx SpecContext) {
		shutDown(ctx)
		api := world.Client()
		var role rbacv1.ClusterRole
		Expect(api.Get(ctx, client.ObjectKey{Name: "service-proxy-agent"}, &role)).To(Succeed())
		allowed := role.DeepCopy().Rules
		for i, rule := range role.Rules {
			if rule.Resources[0] == "endpointslices" {
				role.Rules[i].Resources = []string{"nothing"}
			}
		}
		Expect(api.Update(ctx, &role)).To(Succeed())
		allow := func(ctx SpecContext) {
			Expect(api.Get(ctx, client.ObjectKeyFromObject(&role), &role)).To(Succeed())
			role.Rules = allowed
			Expect(api.Update(ctx, &role)).To(Succeed())
		}
		DeferCleanup(allow)
		starts(ctx)
		Eventually(func() error { return asks(ctx) }).Should(Succeed())
		Eventually(func() metav1.Condition { return condition(ctx, v1alpha1.ConditionProgrammed) }).Should(And(
			HaveField("Status", metav1.ConditionTrue),
			HaveField("Message", ContainSubstring("because the API server has not listed them since this agent started"))))
		Expect(metrics(ctx)()).To(MatchRegexp(fromMemory))

		allow(ctx)
		Eventually(func() metav1.Condition { return condition(ctx, v1alpha1.ConditionProgrammed) }).Should(
			HaveField("Message", Not(ContainSubstring("since this agent started"))))
		Expect(metrics(ctx)()).To(MatchRegexp(fromAPI))
	}, SpecTimeout(5*time.Minute))
})

var _ = Describe("A node that is cleaned up", func() {
	It("forgets everything", func(ctx SpecContext) {
		Expect(setup.Agent(node.Name).Stop(ctx)).To(Succeed())
		dir := string(state())
		cleanUp(ctx, dir)
		files, err := os.ReadDir(dir)
		Expect(err).NotTo(HaveOccurred())
		for _, f := range files {
			Expect(strings.HasPrefix(f.Name(), "apiservers")).To(BeTrue(), "%s is left", f.Name())
		}
		starts(ctx)
	}, SpecTimeout(5*time.Minute))
})
