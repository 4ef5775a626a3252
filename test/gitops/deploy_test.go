package gitops

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

var _ = Describe("make", func() {
	const (
		namespace = "service-proxy-system"
		image     = "registry.example.com:5000/operator@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		agents    = "registry.example.com:5000/agent:v9"
	)

	It("deploys the operator with the images it is told, and undeploys all that came of it", func(ctx context.Context) {
		c, err := cluster.Start(ctx, cluster.Options{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Stop)
		kube := c.Client()
		run := func(target string) {
			GinkgoHelper()
			command := exec.CommandContext(ctx, "make", "-C", root, target, "IMG="+image, "AGENT_IMG="+agents)
			command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "MAKEFLAGS=", "MAKELEVEL=")
			out, err := command.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), string(out))
		}
		names := func(kinds string) []string {
			GinkgoHelper()
			out, err := c.Kubectl(ctx, "get", kinds, "--all-namespaces", "--output=name", "--ignore-not-found")
			Expect(err).NotTo(HaveOccurred())
			var ours []string
			for name := range strings.FieldsSeq(out) {
				if strings.Contains(name, "service-proxy") || strings.Contains(name, "serviceproxy.io") {
					ours = append(ours, name)
				}
			}
			return ours
		}
		const kinds = "namespaces,customresourcedefinitions,validatingadmissionpolicies,validatingadmissionpolicybindings," +
			"clusterroles,clusterrolebindings,daemonsets,deployments,serviceaccounts,roles,rolebindings,configmaps"

		run("deploy")
		operator := &appsv1.Deployment{}
		Expect(kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "service-proxy-operator"}, operator)).To(Succeed())
		container := operator.Spec.Template.Spec.Containers[0]
		Expect(container.Image).To(Equal(image))
		Expect(container.Env).To(ContainElement(And(HaveField("Name", "RELATED_IMAGE_AGENT"), HaveField("Value", agents))))

		// What the Deployment would run, if there were kubelets here.
		kubeconfig, err := c.ServiceAccountKubeconfig(ctx, namespace, operator.Spec.Template.Spec.ServiceAccountName)
		Expect(err).NotTo(HaveOccurred())
		process, err := c.ControlPlane().Start(cluster.ProcessSpec{
			Path: root + "/bin/operator",
			Args: []string{"--kubeconfig=" + kubeconfig, "--namespace=" + namespace, "--agent-image=" + agents},
		})
		Expect(err).NotTo(HaveOccurred())
		started := &appsv1.DaemonSet{}
		key := client.ObjectKey{Namespace: namespace, Name: "service-proxy-agent"}
		Eventually(kube.Get).WithArguments(ctx, key, started).Should(Succeed())
		Expect(names(kinds)).To(ContainElements(
			HaveSuffix("validatingadmissionpolicy.admissionregistration.k8s.io/service-proxy-agent-guard"),
			HaveSuffix("namespace/"+namespace)))

		run("undeploy")
		Expect(kube.Get(ctx, key, started)).To(MatchError(apierrors.IsNotFound, "IsNotFound"))
		Eventually(names).WithArguments(kinds).Should(BeEmpty(), "also while the operator still runs")
		Consistently(names).WithArguments(kinds).WithTimeout(3 * time.Second).Should(BeEmpty())
		Expect(process.Stop(ctx)).To(Succeed())
		run("undeploy")
	})
})
