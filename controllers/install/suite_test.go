package install_test

import (
	"context"
	"maps"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2/textlogger"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/serviceproxy/service-proxy-operator/controllers/config"
	"github.com/serviceproxy/service-proxy-operator/controllers/install"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestInstall(t *testing.T) {
	specs.Run(t, "controllers/install")
}

const (
	namespace       = "service-proxy-system"
	operatorAccount = "service-proxy-operator"
	image           = "registry.example.com/agent:v1"
)

var (
	world *cluster.Cluster
	kube  client.Client // as an administrator
	// asOperator and asAgents are the operator, and the agents of nodes a and b, with the tokens of Pods there.
	asOperator *rest.Config
	asAgents   map[string]*rest.Config
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrl.SetLogger(textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(GinkgoWriter), textlogger.Verbosity(1))))
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"a", "b"}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	_, err = world.Kubectl(ctx, "apply", "--server-side", "--kustomize=../../config/default")
	Expect(err).NotTo(HaveOccurred())
	_, err = world.Kubectl(ctx, "wait", "--for=condition=Established", "customresourcedefinition", "--all")
	Expect(err).NotTo(HaveOccurred())
	kube = world.Client()
	asOperator = podAccess(ctx, "operator", operatorAccount, "a")
	asAgents = map[string]*rest.Config{
		"a": podAccess(ctx, "agent-a", install.AgentName, "a"), "b": podAccess(ctx, "agent-b", install.AgentName, "b"),
	}
})

// podAccess makes a Pod of a service account on a node and returns the access that its token gives.
func podAccess(ctx context.Context, name, account, node string) *rest.Config {
	GinkgoHelper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: account, Containers: []corev1.Container{{Name: "main", Image: "main"}},
		},
	}
	Expect(kube.Create(ctx, pod)).To(Succeed())
	file, err := world.BoundKubeconfig(ctx, pod)
	Expect(err).NotTo(HaveOccurred())
	return accessFrom(file)
}

// accessFrom returns the access that a kubeconfig gives, from this machine.
func accessFrom(file string) *rest.Config {
	GinkgoHelper()
	access, err := clientcmd.BuildConfigFromFlags("", file)
	Expect(err).NotTo(HaveOccurred())
	access.Host, access.QPS = world.RESTConfig().Host, -1
	return access
}

// operator is one that runs in this process, until the spec ends.
type operator struct {
	guard *install.Guard
	stop  func()
}

// startOperator starts an operator with nothing but its own rights, which also looks after configs.
func startOperator(clk clock.PassiveClock, agent *install.Agent, adjust ...func(*install.Reconciler)) *operator {
	GinkgoHelper()
	options, err := config.ManagerOptions(namespace)
	Expect(err).NotTo(HaveOccurred())
	maps.Copy(options.Cache.ByObject, install.ByObject(namespace))
	options.Metrics.BindAddress = "0"
	options.Controller.SkipNameValidation = new(true) // one after the other in one process
	mgr, err := ctrl.NewManager(asOperator, options)
	Expect(err).NotTo(HaveOccurred())
	o := &operator{guard: install.NewGuard(clk)}
	installer := &install.Reconciler{
		API: as(asOperator), Namespace: namespace, Agent: agent, Guard: o.guard,
	}
	for _, f := range adjust {
		f(installer)
	}
	Expect(installer.SetupWithManager(mgr)).To(Succeed())
	Expect((&config.Reconciler{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder(operatorAccount), Clock: clk,
		Namespace: namespace, Guard: o.guard,
	}).SetupWithManager(mgr)).To(Succeed())
	o.stop = run(mgr)
	DeferCleanup(o.stop)
	return o
}

// run runs a manager until the function that it returns is called for the first time.
func run(mgr manager.Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stopped := false
	return func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		var err error
		Eventually(ended).Should(Receive(&err))
		Expect(err).NotTo(HaveOccurred(), "the operator ends without an error")
	}
}

// agents are agents as most specs want them.
func agents() *install.Agent {
	return &install.Agent{Image: image, MaxUnavailable: intstr.FromString("10%")}
}

// daemonSet returns the DaemonSet of the agents, nil if there is none.
func daemonSet(ctx context.Context) (*appsv1.DaemonSet, error) {
	found := &appsv1.DaemonSet{}
	err := kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: install.AgentName}, found)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return found, err
}

// uninstall deletes what an operator has installed.
func uninstall(ctx context.Context) {
	GinkgoHelper()
	for _, object := range installed() {
		Expect(client.IgnoreNotFound(kube.Delete(ctx, object))).To(Succeed())
	}
}
