package apiserver_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

var _ = Describe("several API servers", func() {
	It("stand in for one another, also for watches", func(ctx context.Context) {
		a, b := newDoor(ctx), newDoor(ctx)
		servers, err := apiserver.New(ctx, administrator(), apiserver.Options{
			Given: []string{a.address, b.address}, OfService: true,
		})
		Expect(err).NotTo(HaveOccurred())
		api, err := kubernetes.NewForConfig(servers.Config())
		Expect(err).NotTo(HaveOccurred())
		list := func() error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			_, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			return err
		}
		Expect(list()).To(Succeed())
		for range 3 {
			for _, d := range []*door{a, b} {
				watching, err := api.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{})
				Expect(err).NotTo(HaveOccurred())
				d.shut()
				// What was under way may fail; whatever comes after it does not.
				Eventually(list).WithTimeout(time.Minute).Should(Succeed())
				Expect(list()).To(Succeed())
				watching.Stop()
				d.openAgain(ctx)
			}
		}
	})

	It("are found in their EndpointSlice, and remembered", func(ctx context.Context) {
		file := filepath.Join(GinkgoT().TempDir(), "state", "apiservers.json")
		through := newDoor(ctx)
		options := apiserver.Options{Given: []string{through.address}, OfService: true, File: file}
		servers, err := apiserver.New(ctx, administrator(), options)
		Expect(err).NotTo(HaveOccurred())
		following, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- servers.Follow(following) }()
		DeferCleanup(stop)
		Eventually(servers.Known).Should(Equal([]string{through.address, lan(), service}))

		slice := &discoveryv1.EndpointSlice{}
		key := client.ObjectKey{Namespace: apiserver.SliceNamespace, Name: apiserver.SliceName}
		Expect(world.Client().Get(ctx, key, slice)).To(Succeed())
		published := slice.DeepCopy()
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}})
		Expect(world.Client().Update(ctx, slice)).To(Succeed())
		Eventually(servers.Known).Should(Equal([]string{through.address, "192.0.2.1:6443", lan(), service}))

		By("remembering them")
		Eventually(func() ([]string, error) {
			next, err := apiserver.New(ctx, administrator(), apiserver.Options{OfService: true, File: file})
			if err != nil {
				return nil, err
			}
			return next.Known(), nil
		}).Should(Equal([]string{"192.0.2.1:6443", lan(), service}))

		By("not believing that there are none")
		Expect(world.Client().Delete(ctx, slice)).To(Succeed())
		published.ResourceVersion, published.UID = "", ""
		Expect(world.Client().Create(ctx, published)).To(Succeed()) // before the API server does
		Eventually(servers.Known).Should(Equal([]string{through.address, lan(), service}))
		stop()
		Eventually(done).Should(Receive(BeNil()))
	})
})

var _ = Describe("an agent in a Pod on a node without any proxy", Ordered, func() {
	const namespace = "service-proxy-system"
	var (
		node    *cluster.Node
		program string
		spec    func(env ...string) cluster.ProcessSpec
	)

	BeforeAll(func(ctx context.Context) {
		node = world.Node("fresh")
		var err error
		program, err = gexec.Build("github.com/serviceproxy/service-proxy-operator/cmd/agent")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(gexec.CleanupBuildArtifacts)
		for _, args := range [][]string{
			{"apply", "--server-side", "--filename=../../config/crd/bases"},
			{"create", "namespace", namespace},
			{"apply", "--filename=../../config/rbac/agent.yaml"},
			{"wait", "--for=condition=Established", "customresourcedefinition", "--all"},
		} {
			_, err := world.Kubectl(ctx, args...)
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(world.Client().Create(ctx, &v1alpha1.ServiceProxyNode{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name},
			Spec: v1alpha1.ServiceProxyNodeSpec{
				ConfigRef: v1alpha1.ConfigReference{Name: "default", Generation: new(int64(1))}, Revision: "default-1",
				ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
			},
		})).To(Succeed())
		secrets := mountedToken(ctx, namespace, node.Name)
		state, err := node.Dir()
		Expect(err).NotTo(HaveOccurred())
		// What a kubelet gives a Pod: where Service default/kubernetes is, and a token in its place.
		const pod = `mount -t tmpfs none /run
			mkdir -p /run/secrets/kubernetes.io/serviceaccount
			cp "$SECRETS"/* /run/secrets/kubernetes.io/serviceaccount
			exec "$0" "$@"`
		spec = func(env ...string) cluster.ProcessSpec {
			return cluster.ProcessSpec{
				Name: "agent", Path: "unshare",
				Args: []string{
					"--mount", "sh", "-euc", pod, program, "--node-name=" + node.Name, "--state-dir=" + state, "-v=2",
				},
				Env: append(env, "SECRETS="+secrets, "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443"),
			}
		}
	})

	reports := func(ctx context.Context) func() (bool, error) {
		return func() (bool, error) {
			object := &v1alpha1.ServiceProxyNode{}
			err := world.Client().Get(ctx, client.ObjectKey{Name: node.Name}, object)
			return object.Status.ObservedGeneration == object.Generation && object.Status.AppliedRevision == object.Spec.Revision, err
		}
	}

	It("finds the API server where it was told", func(ctx context.Context) {
		_, err := node.Dial(ctx, "tcp", "10.96.0.1:443")
		Expect(err).To(HaveOccurred(), "nobody makes cluster IPs work here yet")
		agent, err := node.Start(spec("API_SERVERS=" + lan()))
		Expect(err).NotTo(HaveOccurred())
		Eventually(reports(ctx)).Should(BeTrue(), func() string { return agent.Tail(40) })
		Expect(agent.Stop(ctx)).To(Succeed())
	})

	It("finds it again without being told", func(ctx context.Context) {
		_, err := node.Run(ctx, program, "cleanup")
		Expect(err).NotTo(HaveOccurred())
		object := &v1alpha1.ServiceProxyNode{}
		Expect(world.Client().Get(ctx, client.ObjectKey{Name: node.Name}, object)).To(Succeed())
		object.Spec.Revision = "default-2"
		Expect(world.Client().Update(ctx, object)).To(Succeed())
		agent, err := node.Start(spec())
		Expect(err).NotTo(HaveOccurred())
		Eventually(reports(ctx)).Should(BeTrue(), func() string { return agent.Tail(40) })
		Expect(agent.Stop(ctx)).To(Succeed())
	})
})

// mountedToken returns a folder with what a kubelet mounts into a Pod of the agents on a node.
func mountedToken(ctx context.Context, namespace, node string) string {
	GinkgoHelper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "agent"},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "service-proxy-agent",
			Containers: []corev1.Container{{Name: "agent", Image: "agent"}},
		},
	}
	Expect(world.Client().Create(ctx, pod)).To(Succeed())
	file, err := world.BoundKubeconfig(ctx, pod)
	Expect(err).NotTo(HaveOccurred())
	access, err := clientcmd.BuildConfigFromFlags("", file)
	Expect(err).NotTo(HaveOccurred())
	folder := GinkgoT().TempDir()
	for name, content := range map[string]string{"token": access.BearerToken, "ca.crt": string(access.CAData)} {
		Expect(os.WriteFile(filepath.Join(folder, name), []byte(strings.TrimSpace(content)+"\n"), 0o600)).To(Succeed())
	}
	return folder
}
