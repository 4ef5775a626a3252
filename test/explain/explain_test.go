// Package explain breaks Services in a real cluster, and tests that kubectl serviceproxy names the true cause first.
package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestExplain(t *testing.T) {
	specs.Run(t, "test/explain")
}

// root is the folder of the repository.
const root = "../.."

var (
	world *cluster.Cluster
	setup *install.Installation
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"one", "two"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: root, Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	for _, node := range world.Nodes() {
		reportAgent(ctx, node.Name, corev1.ConditionTrue)
	}
	_, err = world.RunPod(ctx, cluster.PodSpec{Name: "web", Node: "one", Labels: map[string]string{"app": "web"},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}})
	Expect(err).NotTo(HaveOccurred())
	_, err = world.RunPod(ctx, cluster.PodSpec{Name: "sick", Node: "one", Labels: map[string]string{"app": "sick"}, NotReady: true,
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}})
	Expect(err).NotTo(HaveOccurred())
	report(ctx, client.ObjectKey{Namespace: "default", Name: "sick"}, func(status *corev1.PodStatus) {
		status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", Image: "sick", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s restarting failed container"}}}}
	})
	kubectl(ctx, "apply", "--server-side", "--filename=testdata")
	kubectl(ctx, "patch", "service", "ranges", "--subresource=status", "--type=merge",
		`--patch={"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.98"}]}}}`)
	kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=120s", "spc/default")
	Expect(world.WaitForEndpoints(ctx, "default", "well", 1)).To(Succeed())
})

// What everybody said, if a spec failed.
var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	for _, p := range []*cluster.Process{setup.Operator(), setup.Agent("one"), setup.Agent("two")} {
		GinkgoWriter.Printf("--- %s\n%s\n", p.LogFile(), p.Tail(40))
	}
})

var _ = DescribeTable("The cause that comes first of a broken Service", func(ctx context.Context, name, cause, effect, message string) {
	Eventually(func(g Gomega) {
		a := ask(ctx, name)
		status := 1
		if effect == "Perhaps" {
			status = 0
		}
		g.Expect(a.Status).To(Equal(status), a.ErrOut)
		g.Expect(a.Findings).NotTo(BeEmpty())
		g.Expect(a.Findings[0].Cause).To(Equal(cause))
		g.Expect(a.Findings[0].Effect).To(Equal(effect))
		g.Expect(a.Findings[0].Message).To(ContainSubstring(message))
		g.Expect(a.Findings[0].Next).NotTo(BeEmpty())
	}).WithContext(ctx).Should(Succeed())
},
	Entry("whose selector has a typing error", "selector", "NothingSelected", "Nobody", "pod web comes nearest, with app=web"),
	Entry("whose pods crash", "crash", "NotReady", "Nobody", "sick: container main waits, CrashLoopBackOff: back-off 5m0s"),
	Entry("whose target port has a name that no container has", "port-name", "NoSuchPort", "Nobody", "they have http=8080/TCP"),
	Entry("whose target port is a wrong number", "port-number", "UndeclaredPort", "Perhaps", "sends connections to port 8081 of the pods"),
	Entry("for which nobody makes EndpointSlices", "by-hand", "NoSelector", "Nobody", "it has no selector"),
	Entry("that keeps clients to their own nodes", "local", "NoLocalEndpoint", "Some", "endpoints are on one; there is none on two"),
	Entry("that only others may connect to", "ranges", "SourceRanges", "Perhaps", "lets only 198.51.100.0/24 connect"),
	Entry("that waits for a load balancer", "pending", "AddressPending", "Some", "the cloud controller of the cluster"),
	Entry("that is an alias", "alias", "ExternalName", "Nobody", "an alias of web.example.com"),
	Entry("that is headless", "headless", "Headless", "Perhaps", "stands for the addresses of its pods"),
	Entry("that is another proxy's", "foreign", "OtherProxy", "Nobody", "service-proxy-name=mesh hands it to another proxy"),
	Entry("whose address another one has", "disputed", "AddressDisputed", "Some", "Service default/claimed claims 192.0.2.99:80/tcp too, and has it"),
)

var _ = Describe("Explaining a Service", func() {
	It("finds nothing where nothing is wrong", func(ctx context.Context) {
		Eventually(func(g Gomega) {
			_, err := world.Node("two").Ask(ctx, "tcp", "10.96.0.70:80")
			g.Expect(err).NotTo(HaveOccurred())
		}).WithContext(ctx).Should(Succeed())
		out, errOut, status := run(ctx, "explain", "service", "well")
		Expect(status).To(BeZero(), errOut)
		Expect(out).To(Equal("Service default/well: nothing is known that would keep clients from it.\n\n-> kubectl serviceproxy trace FROM well -n default\n"))
		Expect(ask(ctx, "well").Findings).To(BeEmpty())
	})

	It("puts causes and what to do into words", func(ctx context.Context) {
		out, _, status := run(ctx, "explain", "svc", "selector")
		Expect(status).To(Equal(1))
		Expect(out).To(Equal("Service default/selector: NothingSelected\n\nNothingSelected (nobody gets through): its selector app=webb matches no running pod of " +
			"namespace default; pod web comes nearest, with app=web.\n  -> kubectl -n default get pods --show-labels\n  -> kubectl -n default edit service selector\n"))
		out, _, _ = run(ctx, "explain", "service", "selector", "--output=yaml")
		Expect(out).To(ContainSubstring("- cause: NothingSelected\n"))
	})

	It("finds agents that are gone, or that cannot write what they should", func(ctx context.Context) {
		Expect(setup.Agent("one").Stop(ctx)).To(Succeed())
		reportAgent(ctx, "one", corev1.ConditionFalse)
		DeferCleanup(func(ctx context.Context) {
			reportAgent(ctx, "one", corev1.ConditionTrue)
			Expect(setup.StartAgent(ctx, world.Node("one"))).To(Succeed())
		})
		a := ask(ctx, "well")
		Expect(a.Status).To(Equal(1))
		Expect(a.Findings).To(HaveLen(1))
		Expect(a.Findings[0].Cause).To(Equal("NodesBehind"))
		Expect(a.Findings[0].Message).To(HavePrefix("1 of 2 nodes may not hold what is asked for now: one: its agent, pod service-proxy-agent-one, is not Ready"))
		Expect(a.Findings[0].Next).To(HaveExactElements("kubectl serviceproxy why one",
			"kubectl -n service-proxy-system get pods --field-selector spec.nodeName=one"))
		Expect(ask(ctx, "selector").Findings).To(HaveExactElements(
			HaveField("Cause", "NothingSelected"), HaveField("Cause", "NodesBehind")), "without pods it matters little what nodes do")
	})

	It("tells which Service was probably meant", func(ctx context.Context) {
		_, errOut, status := run(ctx, "explain", "service", "wel")
		Expect(status).To(Equal(2))
		Expect(errOut).To(Equal("error: in namespace default: there is no service \"wel\"; did you mean \"well\"?\n"))
		out, _, _ := run(ctx, "__complete", "explain", "service", "hea")
		Expect(out).To(HavePrefix("headless\n"))
	})
})

// answer is what programs read of an explanation, and what the command said besides.
type answer struct {
	Status   int
	ErrOut   string
	Service  string
	Well     bool
	Findings []struct {
		Cause, Effect, Message string
		Next                   []string
	}
}

func ask(ctx context.Context, service string) answer {
	GinkgoHelper()
	out, errOut, status := run(ctx, "explain", "service", service, "--output=json")
	a := answer{Status: status, ErrOut: errOut}
	if status < 2 {
		Expect(json.Unmarshal([]byte(out), &a)).To(Succeed())
		Expect(a.Service).To(Equal("default/" + service))
		Expect(a.Well).To(Equal(status == 0))
	}
	return a
}

// run runs kubectl serviceproxy.
func run(ctx context.Context, args ...string) (out, errOut string, status int) {
	GinkgoHelper()
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin", "kubectl-serviceproxy"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+world.Kubeconfig(), "KUBECACHEDIR="+GinkgoT().TempDir())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		Expect(err).NotTo(HaveOccurred(), "make build builds it")
	} else if ended {
		status = exit.ExitCode()
	}
	GinkgoWriter.Printf("$ kubectl serviceproxy %v -> %d\n%s%s\n", args, status, &stdout, &stderr)
	return stdout.String(), stderr.String(), status
}

func kubectl(ctx context.Context, args ...string) {
	GinkgoHelper()
	_, err := world.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
}

// reportAgent says of the agent of a node, as a kubelet would, whether it is Ready.
func reportAgent(ctx context.Context, node string, ready corev1.ConditionStatus) {
	GinkgoHelper()
	report(ctx, client.ObjectKey{Namespace: install.Namespace, Name: "service-proxy-agent-" + node}, func(status *corev1.PodStatus) {
		status.Phase = corev1.PodRunning
		status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	})
}

// report changes the status of a Pod, as a kubelet does.
func report(ctx context.Context, name client.ObjectKey, change func(*corev1.PodStatus)) {
	GinkgoHelper()
	var pod corev1.Pod
	Expect(world.Client().Get(ctx, name, &pod)).To(Succeed())
	before := pod.DeepCopy()
	change(&pod.Status)
	Expect(world.Client().Status().Patch(ctx, &pod, client.MergeFrom(before))).To(Succeed())
}
