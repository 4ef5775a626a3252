package gitops

import (
	"context"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// breaks is a value of sync.fullIntervalSeconds with which a probe fails on every node.
const breaks = 13

var _ = Describe("what tools read while a real operator rolls out", Ordered, func() {
	var (
		kube  client.WithWatch
		story *chronicle
	)

	BeforeAll(func(ctx context.Context) {
		scheme := runtime.NewScheme()
		Expect(corev1.AddToScheme(scheme)).To(Succeed())
		Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
		var err error
		kube, err = client.NewWithWatch(server.RESTConfig(), client.Options{Scheme: scheme})
		Expect(err).NotTo(HaveOccurred())
		startOperator(ctx)
		for _, name := range []string{"a", "b", "c"} {
			makeNode(ctx, kube, name)
		}
		story = follow(kube)
		actAsAgents(kube)
		DeferCleanup(func(ctx context.Context) { kubectl(ctx, "delete", "spc,spn", "--all") })
	})

	// Every spec ends in a state, and says what was read on the way there.
	reaches := func(ctx context.Context, name string, want verdict, reason string) {
		GinkgoHelper()
		Eventually(func(g Gomega) {
			config := object("ServiceProxyConfig")
			g.Expect(kube.Get(ctx, client.ObjectKey{Name: name}, config)).To(Succeed())
			g.Expect(read(config)).To(Equal(want))
			conditions, _, _ := unstructured.NestedSlice(config.Object, "status", "conditions")
			g.Expect(conditions).To(ContainElement(And(HaveKeyWithValue("type", "Ready"), HaveKeyWithValue("reason", reason))))
		}).Should(Succeed())
		_, err := server.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=1s", "spc/"+name)
		if want == done {
			Expect(err).NotTo(HaveOccurred())
		} else {
			Expect(err).To(MatchError(ContainSubstring("timed out")), "kubectl goes on waiting")
		}
	}

	It("is right from the first second of a config", func(ctx context.Context) {
		kubectl(ctx, "apply", "--server-side", "--filename=testdata/pool.yaml")
		// The status is written later, and until then says that nobody has looked.
		kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=30s", "spc/pool")
		reaches(ctx, "pool", done, v1alpha1.ReasonAllNodesReady)
		Expect(story.told("pool")).To(Equal([]verdict{onItsWay, done}))
	})

	It("is on its way from canary to the last batch", func(ctx context.Context) {
		story.forget()
		set(ctx, `{"sync": {"fullIntervalSeconds": 60}}`)
		kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "spc/pool")
		reaches(ctx, "pool", done, v1alpha1.ReasonAllNodesReady)
		Expect(story.told("pool")).To(Equal([]verdict{onItsWay, done}))
		Expect(story.reasons("pool")).To(ContainElements(v1alpha1.ReasonCanary, v1alpha1.ReasonRollingOut))
	})

	It("is suspended while paused, and goes on", func(ctx context.Context) {
		story.forget()
		set(ctx, `{"sync": {"fullIntervalSeconds": 70}, "rollout": {"state": "Paused"}}`)
		reaches(ctx, "pool", paused, v1alpha1.ReasonRolloutPaused)
		set(ctx, `{"rollout": {"state": "Active"}}`)
		reaches(ctx, "pool", done, v1alpha1.ReasonAllNodesReady)
		Expect(story.told("pool")).To(Equal([]verdict{onItsWay, paused, onItsWay, done}))
	})

	It("has failed when a rollout is halted, and recovers with another change", func(ctx context.Context) {
		story.forget()
		set(ctx, `{"sync": {"fullIntervalSeconds": 13}}`)
		reaches(ctx, "pool", doomed, v1alpha1.ReasonRolloutHalted)
		set(ctx, `{"sync": {"fullIntervalSeconds": 80}}`)
		reaches(ctx, "pool", done, v1alpha1.ReasonAllNodesReady)
		Expect(story.told("pool")).To(Equal([]verdict{onItsWay, doomed, onItsWay, done}))
	})

	It("has failed when a rollout is rolled back", func(ctx context.Context) {
		story.forget()
		set(ctx, `{"sync": {"fullIntervalSeconds": 13}, "rollout": {"onFailure": "Rollback"}}`)
		reaches(ctx, "pool", doomed, v1alpha1.ReasonRolledBack)
		set(ctx, `{"sync": {"fullIntervalSeconds": 90}}`)
		reaches(ctx, "pool", done, v1alpha1.ReasonAllNodesReady)
		Expect(story.told("pool")).To(Equal([]verdict{onItsWay, doomed, onItsWay, done}))
	})

	It("stays done when a Node is not Ready, and when there is no node", func(ctx context.Context) {
		story.forget()
		setReady(ctx, kube, "c", corev1.ConditionFalse)
		Eventually(func() string {
			return kubectl(ctx, "get", "spc", "pool", "--output=jsonpath={.status.nodes.unavailable}")
		}).Should(Equal("1"))
		reaches(ctx, "pool", done, v1alpha1.ReasonAllNodesReady)
		setReady(ctx, kube, "c", corev1.ConditionTrue)

		kubectl(ctx, "apply", "--server-side", "--filename=testdata/nobody.yaml")
		reaches(ctx, "nobody", done, v1alpha1.ReasonNoMatchingNodes)
		Expect(story.told("nobody")).To(Equal([]verdict{onItsWay, done}))
		Expect(story.told("pool")).To(HaveEach(done))
	})

	It("has failed for the loser of a tie alone", func(ctx context.Context) {
		story.forget()
		kubectl(ctx, "apply", "--server-side", "--filename=testdata/rival.yaml")
		reaches(ctx, "rival", doomed, v1alpha1.ReasonConflicted)
		reaches(ctx, "pool", done, v1alpha1.ReasonAllNodesReady)
		kubectl(ctx, "delete", "spc", "rival")
		Expect(story.told("pool")).To(HaveEach(done))
	})

	It("can be waited for when nodes are given back", func(ctx context.Context) {
		set(ctx, `{"onRelease": "Cleanup", "rollout": {"nodeChangeDelaySeconds": 0}}`)
		kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=10s", "spc/pool")
		kubectl(ctx, "delete", "spc", "pool")
		kubectl(ctx, "wait", `--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Released`, "--timeout=60s", "spn", "--all")
	})

	AfterEach(func() {
		Expect(story.problems()).To(BeEmpty())
	})
})

// set changes the spec of the pool.
func set(ctx context.Context, spec string) {
	GinkgoHelper()
	kubectl(ctx, "patch", "spc", "pool", "--type=merge", `--patch={"spec": `+spec+`}`)
}

func startOperator(ctx context.Context) {
	GinkgoHelper()
	const namespace, account = "service-proxy-system", "service-proxy-operator"
	kubeconfig, err := server.ServiceAccountKubeconfig(ctx, namespace, account)
	Expect(err).NotTo(HaveOccurred())
	process, err := server.ControlPlane().Start(cluster.ProcessSpec{
		Path: root + "/bin/operator",
		Args: []string{"--kubeconfig=" + kubeconfig, "--namespace=" + namespace, "--agent=external"},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx context.Context) {
		AddReportEntry("the operator", process.Tail(20), ReportEntryVisibilityFailureOrVerbose)
		Expect(process.Stop(ctx)).To(Succeed())
	})
}

func makeNode(ctx context.Context, kube client.Client, name string) {
	GinkgoHelper()
	Expect(kube.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
	setReady(ctx, kube, name, corev1.ConditionTrue)
	DeferCleanup(func(ctx context.Context) { kubectl(ctx, "delete", "node", name) })
}

func setReady(ctx context.Context, kube client.Client, name string, status corev1.ConditionStatus) {
	GinkgoHelper()
	node := &corev1.Node{}
	Expect(kube.Get(ctx, client.ObjectKey{Name: name}, node)).To(Succeed())
	before := node.DeepCopy()
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: status, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}
	Expect(kube.Status().Patch(ctx, node, client.MergeFrom(before))).To(Succeed())
}

// object is an empty object of one of our kinds.
func object(kind string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind(kind))
	return u
}

// each calls f with every version of every object of a kind, until the specs of the container are over.
func each(kube client.WithWatch, kind string, f func(context.Context, *unstructured.Unstructured)) {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.Background())
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind(kind + "List"))
	events, err := kube.Watch(ctx, list)
	Expect(err).NotTo(HaveOccurred())
	ended := make(chan struct{})
	go func() {
		defer GinkgoRecover()
		defer close(ended)
		for event := range events.ResultChan() {
			if object, is := event.Object.(*unstructured.Unstructured); is && ctx.Err() == nil {
				f(ctx, object)
			}
		}
	}()
	DeferCleanup(func() {
		cancel()
		Eventually(ended).Should(BeClosed())
	})
}

// actAsAgents does what the agents of all nodes do once the kernel holds what their ServiceProxyNode says; with settings
// that break something they return to what they had.
func actAsAgents(kube client.WithWatch) {
	GinkgoHelper()
	each(kube, "ServiceProxyNode", func(ctx context.Context, u *unstructured.Unstructured) {
		node := &v1alpha1.ServiceProxyNode{}
		Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, node)).To(Succeed())
		if node.DeletionTimestamp != nil || node.Status.ObservedGeneration == node.Generation {
			return
		}
		before := node.DeepCopy()
		node.Status.ObservedGeneration = node.Generation
		is := func(kind string, status metav1.ConditionStatus, reason, message string) {
			meta.SetStatusCondition(&node.Status.Conditions, metav1.Condition{
				Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: node.Generation,
			})
		}
		is(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonSupported, "")
		if node.Spec.Action == v1alpha1.ActionRelease {
			node.Status.AppliedRevision = ""
			is(v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonReleased, "")
			is(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReleased, "")
		} else if seconds := node.Spec.Sync.FullIntervalSeconds; seconds != nil && *seconds == breaks {
			node.Status.FailedRevision = node.Spec.Revision
			for _, kind := range []string{v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady} {
				is(kind, metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, "probe dns did not answer")
			}
			is(v1alpha1.ConditionRolledBack, metav1.ConditionTrue, v1alpha1.ReasonProbeFailed, "probe dns did not answer")
		} else {
			node.Status.AppliedRevision, node.Status.Mode, node.Status.FailedRevision = node.Spec.Revision, node.Spec.Mode, ""
			for _, kind := range []string{v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady} {
				is(kind, metav1.ConditionTrue, v1alpha1.ReasonSynced, "")
			}
			is(v1alpha1.ConditionRolledBack, metav1.ConditionFalse, v1alpha1.ReasonNotRolledBack, "")
		}
		err := kube.Status().Patch(ctx, node, client.MergeFrom(before))
		Expect(client.IgnoreNotFound(err)).To(Or(Succeed(), MatchError(context.Canceled)))
	})
}

// chronicle is what was read of every version of every object.
type chronicle struct {
	mu       sync.Mutex
	verdicts map[string][]verdict // of configs, one after the other where they differ
	given    map[string][]string  // reasons of Reconciling, of configs
	wrong    []string
}

// follow begins a chronicle of both kinds.
func follow(kube client.WithWatch) *chronicle {
	GinkgoHelper()
	c := &chronicle{}
	c.forget()
	each(kube, "ServiceProxyConfig", func(_ context.Context, u *unstructured.Unstructured) { c.note(u, done, onItsWay, paused, doomed) })
	each(kube, "ServiceProxyNode", func(_ context.Context, u *unstructured.Unstructured) { c.note(u, done, onItsWay, broken) })
	return c
}

// note reads a version of an object. Readers may only come to verdicts that go together.
func (c *chronicle) note(u *unstructured.Unstructured, allowed ...verdict) {
	v, err := read(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	name := u.GetName()
	if err != nil {
		c.wrong = append(c.wrong, name+": "+err.Error())
		return
	}
	agree := false
	for _, a := range allowed {
		agree = agree || a == v
	}
	if !agree && u.GetDeletionTimestamp() == nil {
		text, _ := u.MarshalJSON()
		c.wrong = append(c.wrong, strings.Join([]string{name, v.Wait, string(v.Flux), v.Argo, string(text)}, " "))
	}
	if u.GetKind() != "ServiceProxyConfig" {
		return
	}
	if told := c.verdicts[name]; len(told) == 0 || told[len(told)-1] != v {
		c.verdicts[name] = append(told, v)
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, condition := range conditions {
		if fields := condition.(map[string]any); fields["type"] == v1alpha1.ConditionReconciling {
			c.given[name] = append(c.given[name], fields["reason"].(string))
		}
	}
}

// forget begins anew.
func (c *chronicle) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdicts, c.given = map[string][]verdict{}, map[string][]string{}
}

// told returns what was read of a config, once its last version has been.
func (c *chronicle) told(name string) []verdict {
	var last []verdict
	Eventually(func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		same := len(last) == len(c.verdicts[name])
		last = append([]verdict{}, c.verdicts[name]...)
		return same && len(last) > 0
	}).WithPolling(200 * time.Millisecond).Should(BeTrue())
	return last
}

// reasons returns why a config was on its way.
func (c *chronicle) reasons(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.given[name]...)
}

// problems returns the versions of which readers made different things.
func (c *chronicle) problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.wrong...)
}
