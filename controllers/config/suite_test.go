package config_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2/textlogger"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/config"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestConfig(t *testing.T) {
	specs.Run(t, "controllers/config")
}

// namespace is where the operator lives in config/.
const namespace = "service-proxy-system"

var (
	server *rest.Config  // as the operator, with its own rights and no others
	admin  *rest.Config  // as an administrator
	kube   client.Client // as an administrator; reads the API server, not a cache
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrl.SetLogger(textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(GinkgoWriter))))
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)

	c, err := cluster.Start(ctx, cluster.Options{})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(c.Stop)
	for _, args := range [][]string{
		{"apply", "--filename=../../config/crd/bases"},
		{"create", "namespace", namespace},
		{"apply", "--filename=../../config/rbac/operator.yaml"},
		{"wait", "--for=condition=Established", "customresourcedefinition", "--all"},
	} {
		_, err := c.Kubectl(ctx, args...)
		Expect(err).NotTo(HaveOccurred())
	}
	admin, server, kube = c.RESTConfig(), c.RESTConfig(), c.Client()
	server.Impersonate.UserName = "system:serviceaccount:" + namespace + ":" + config.FieldOwner
})

// startOperator runs the operator until the spec ends or stop is called, whichever is first.
func startOperator(adjust ...func(*ctrl.Options)) (stop func()) {
	GinkgoHelper()
	return startOperatorWith(server, clock.RealClock{}, adjust...)
}

// startOperatorWith runs the operator with another way to the API server, or another clock.
func startOperatorWith(server *rest.Config, clk clock.PassiveClock, adjust ...func(*ctrl.Options)) (stop func()) {
	GinkgoHelper()
	options, err := config.ManagerOptions(namespace)
	Expect(err).NotTo(HaveOccurred())
	options.Metrics.BindAddress = "0"
	options.Controller.SkipNameValidation = new(true) // one after the other in one process
	for _, f := range adjust {
		f(&options)
	}
	mgr, err := ctrl.NewManager(server, options)
	Expect(err).NotTo(HaveOccurred())
	reconciler := &config.Reconciler{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder(config.FieldOwner), Clock: clk,
		Namespace: namespace,
	}
	Expect(reconciler.SetupWithManager(mgr)).To(Succeed())

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		var err error
		Eventually(ended).Should(Receive(&err))
		Expect(err).NotTo(HaveOccurred(), "the operator ends without an error")
	}
	DeferCleanup(stop)
	return stop
}

// makeNode makes a Node that is Ready.
func makeNode(ctx context.Context, name string, labels map[string]string) *corev1.Node {
	GinkgoHelper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	Expect(kube.Create(ctx, node)).To(Succeed())
	setReady(ctx, node, corev1.ConditionTrue)
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(kube.Delete(ctx, node))).To(Succeed())
		object := &v1alpha1.ServiceProxyNode{ObjectMeta: metav1.ObjectMeta{Name: name}}
		Expect(client.IgnoreNotFound(kube.Delete(ctx, object))).To(Succeed())
	})
	return node
}

func setReady(ctx context.Context, node *corev1.Node, status corev1.ConditionStatus) {
	GinkgoHelper()
	before := node.DeepCopy()
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: status, LastHeartbeatTime: metav1.Now(),
	}}
	Expect(kube.Status().Patch(ctx, node, client.MergeFrom(before))).To(Succeed())
}

// applyConfig makes a config that selects nodes by one label, or all nodes without one, and rolls out at once.
func applyConfig(
	ctx context.Context, name string, priority int32, labels map[string]string,
) *v1alpha1.ServiceProxyConfig {
	GinkgoHelper()
	selector := &v1alpha1.NodeSelector{MatchLabels: map[string]v1alpha1.LabelValue{}}
	for key, value := range labels {
		selector.MatchLabels[key] = v1alpha1.LabelValue(value)
	}
	created := &v1alpha1.ServiceProxyConfig{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.ServiceProxyConfigSpec{
			NodeSelector:  selector,
			Priority:      &priority,
			ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
			Rollout: v1alpha1.Rollout{
				MaxUnavailable: new(intstr.FromString("100%")), MinReadySeconds: new(int32), NodeChangeDelaySeconds: new(int32),
			},
		},
	}
	Expect(kube.Create(ctx, created)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(kube.Delete(ctx, created))).To(Succeed())
	})
	return created
}

// change writes an object after changing it as it is now.
func change[T client.Object](ctx context.Context, object T, edit func(T)) {
	GinkgoHelper()
	Eventually(func() error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		edit(object)
		return kube.Update(ctx, object)
	}).Should(Succeed())
}

// sync does what an agent does once the kernel holds what its ServiceProxyNode says.
func sync(ctx context.Context, names ...string) {
	GinkgoHelper()
	for _, name := range names {
		report(ctx, name, func(object *v1alpha1.ServiceProxyNode) {
			object.Status.AppliedRevision = object.Spec.Revision
			object.Status.Mode = object.Spec.Mode
			setCondition(object, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonSupported, "")
			setCondition(object, v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonSynced, "")
			setCondition(object, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSynced, "")
		})
	}
}

// report writes a status as an agent does.
func report(ctx context.Context, name string, edit func(*v1alpha1.ServiceProxyNode)) {
	GinkgoHelper()
	object := getObject(ctx, name)
	before := object.DeepCopy()
	object.Status.ObservedGeneration = object.Generation
	edit(object)
	Expect(kube.Status().Patch(ctx, object, client.MergeFrom(before))).To(Succeed())
}

func setCondition(
	object *v1alpha1.ServiceProxyNode, kind string, status metav1.ConditionStatus, reason, message string,
) {
	meta.SetStatusCondition(&object.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: object.Generation,
	})
}

// getObject returns the ServiceProxyNode of a node as soon as there is one.
func getObject(ctx context.Context, name string) *v1alpha1.ServiceProxyNode {
	GinkgoHelper()
	object := &v1alpha1.ServiceProxyNode{}
	Eventually(kube.Get).WithArguments(ctx, client.ObjectKey{Name: name}, object).Should(Succeed())
	return object
}

// holders returns a function that says which config each node has.
func holders(ctx context.Context, names ...string) func() map[string]string {
	return func() map[string]string {
		held := map[string]string{}
		for _, name := range names {
			object := &v1alpha1.ServiceProxyNode{}
			if err := kube.Get(ctx, client.ObjectKey{Name: name}, object); err == nil {
				held[name] = object.Spec.ConfigRef.Name
			}
		}
		return held
	}
}

// conditions returns a function that says what a config reports of its generation, such as "Ready=True AllNodesReady".
func conditions(ctx context.Context, name string) func() []string {
	return func() []string {
		now := &v1alpha1.ServiceProxyConfig{}
		if err := kube.Get(ctx, client.ObjectKey{Name: name}, now); err != nil {
			return []string{err.Error()}
		}
		if now.Status.ObservedGeneration != now.Generation {
			return nil
		}
		var said []string
		for _, c := range now.Status.Conditions {
			said = append(said, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
		}
		return said
	}
}
