package bundle

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/bundle/olm"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// namespace is another one than config/default has: with OLM, people choose it.
const namespace = "operators"

// The names in the bundle.
const (
	operatorName = "service-proxy-operator"
	agentName    = "service-proxy-agent"
)

var _ = Describe("the bundle", Ordered, func() {
	var (
		kube client.Client
		csv  *olm.ClusterServiceVersion
	)

	BeforeAll(func(ctx context.Context) {
		kube = server.Client()
		m, err := readManifests()
		Expect(err).NotTo(HaveOccurred())
		csv = m.csv
		create(ctx, kube, suggestedNamespace(csv))
		install(ctx, kube, m)
	})

	It("installs objects that a real API server accepts, and a Pod that the strictest namespace admits", func(ctx context.Context) {
		strict := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
		}}
		create(ctx, kube, strict)
		create(ctx, kube, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: strict.Name, Name: operatorName}})
		create(ctx, kube, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: strict.Name, Name: "default"}})
		for _, deployment := range csv.Spec.Install.Spec.Deployments {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: strict.Name, Name: "pod", Labels: deployment.Spec.Template.Labels},
				Spec:       deployment.Spec.Template.Spec,
			}
			pod.Spec.PriorityClassName = "" // only allowed where a quota says so, or in kube-system; not what is tried here
			Expect(kube.Create(ctx, pod, client.DryRunAll)).To(Succeed())
		}
	})

	It("gives the operator all the rights that it needs to start the agents", func(ctx context.Context) {
		process := startOperator(ctx, csv)
		agents := &appsv1.DaemonSet{}
		Eventually(kube.Get).WithArguments(ctx, client.ObjectKey{Namespace: namespace, Name: agentName}, agents).Should(Succeed())
		spec := agents.Spec.Template.Spec
		Expect(spec.ServiceAccountName).To(Equal(agentName), "which OLM has made")
		Expect(spec.Containers).To(HaveLen(1))
		Expect(spec.Containers[0].Image).To(Equal(csv.Spec.RelatedImages[1].Image))
		Expect(kube.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "agent", Labels: agents.Spec.Template.Labels}, Spec: spec,
		}, client.DryRunAll)).To(Succeed(), "the suggested namespace admits agents")

		var examples []*unstructured.Unstructured
		Expect(json.Unmarshal([]byte(csv.Annotations["alm-examples"]), &examples)).To(Succeed())
		for _, example := range examples {
			Expect(kube.Create(ctx, example.DeepCopy(), client.DryRunAll)).To(Succeed())
		}
		create(ctx, kube, examples[0])
		Eventually(func() *metav1.Condition {
			config := &v1alpha1.ServiceProxyConfig{}
			Expect(kube.Get(ctx, client.ObjectKey{Name: examples[0].GetName()}, config)).To(Succeed())
			return meta.FindStatusCondition(config.Status.Conditions, v1alpha1.ConditionReady)
		}).Should(HaveField("Reason", v1alpha1.ReasonNoMatchingNodes))
		Expect(process.Tail(1000)).NotTo(ContainSubstring("forbidden"))

		// Alerts about the operator are made of metrics that it has.
		metrics := get(ctx, "http://127.0.0.1:8080/metrics")
		Expect(metrics).To(ContainSubstring(`leader_election_master_status{name="service-proxy-operator"} 1`))
		Expect(metrics).To(ContainSubstring(`controller_runtime_reconcile_errors_total{controller=`))
	})

	It("takes agents and policy away with the kinds", func(ctx context.Context) {
		guards := &admissionv1.ValidatingAdmissionPolicyList{}
		Expect(kube.List(ctx, guards)).To(Succeed())
		Expect(guards.Items).To(HaveLen(1))
		_, err := server.Kubectl(ctx, "delete", "--filename="+filepath.Join(root, "config/crd/bases"))
		Expect(err).NotTo(HaveOccurred())
		agents := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: agentName}}
		for _, object := range []client.Object{agents, &guards.Items[0]} {
			Eventually(kube.Get).WithArguments(ctx, client.ObjectKeyFromObject(object), object).
				Should(MatchError(apierrors.IsNotFound, "IsNotFound"))
		}
	})
})

// suggestedNamespace is the one that a console makes for the bundle, by another name.
func suggestedNamespace(csv *olm.ClusterServiceVersion) *corev1.Namespace {
	GinkgoHelper()
	made := &corev1.Namespace{}
	template := csv.Annotations["operatorframework.io/suggested-namespace-template"]
	Expect(json.Unmarshal([]byte(template), made)).To(Succeed())
	Expect(made.Name).To(Equal(csv.Annotations["operatorframework.io/suggested-namespace"]))
	made.Name = namespace
	return made
}

// install does what OLM does with a bundle.
func install(ctx context.Context, kube client.Client, m *manifests) {
	GinkgoHelper()
	for _, object := range m.objects {
		if object.GetKind() == "CustomResourceDefinition" || object.GetKind() == "ClusterRole" {
			create(ctx, kube, object)
			continue
		}
		object.SetNamespace(namespace)
		err := kube.Create(ctx, object)
		if object.GroupVersionKind().Group == "monitoring.coreos.com" {
			Expect(meta.IsNoMatchError(err)).To(BeTrue(), "left out where nobody knows it: it is optional")
			continue
		}
		Expect(err).NotTo(HaveOccurred())
	}
	_, err := server.Kubectl(ctx, "wait", "--for=condition=Established", "customresourcedefinition", "--all")
	Expect(err).NotTo(HaveOccurred())

	spec := m.csv.Spec.Install.Spec
	for _, permissions := range spec.ClusterPermissions {
		name := metav1.ObjectMeta{Name: m.csv.Name + "-" + permissions.ServiceAccountName}
		create(ctx, kube, account(permissions))
		create(ctx, kube, &rbacv1.ClusterRole{ObjectMeta: name, Rules: permissions.Rules})
		create(ctx, kube, &rbacv1.ClusterRoleBinding{
			ObjectMeta: name, Subjects: subjects(permissions),
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name},
		})
	}
	for _, permissions := range spec.Permissions {
		name := metav1.ObjectMeta{Namespace: namespace, Name: m.csv.Name + "-" + permissions.ServiceAccountName}
		create(ctx, kube, &rbacv1.Role{ObjectMeta: name, Rules: permissions.Rules})
		create(ctx, kube, &rbacv1.RoleBinding{
			ObjectMeta: name, Subjects: subjects(permissions),
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name.Name},
		})
	}
	for _, deployment := range spec.Deployments {
		create(ctx, kube, &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: deployment.Name, Labels: deployment.Label},
			Spec:       deployment.Spec,
		})
	}
}

func account(p olm.Permissions) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.ServiceAccountName}}
}

func subjects(p olm.Permissions) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: p.ServiceAccountName}}
}

func create(ctx context.Context, kube client.Client, object client.Object) {
	GinkgoHelper()
	err := kube.Create(ctx, object)
	if _, isAccount := object.(*corev1.ServiceAccount); isAccount && apierrors.IsAlreadyExists(err) {
		return // the one that every namespace has
	}
	Expect(err).NotTo(HaveOccurred())
}

// startOperator runs what the Deployment in the CSV would run, as its service account.
func startOperator(ctx context.Context, csv *olm.ClusterServiceVersion) *cluster.Process {
	GinkgoHelper()
	kubeconfig, err := server.ServiceAccountKubeconfig(ctx, namespace, operatorName)
	Expect(err).NotTo(HaveOccurred())
	container := csv.Spec.Install.Spec.Deployments[0].Spec.Template.Spec.Containers[0]
	spec := cluster.ProcessSpec{
		Path: filepath.Join(root, "bin", "operator"),
		Args: []string{"--kubeconfig=" + kubeconfig},
	}
	for _, variable := range container.Env {
		if variable.ValueFrom != nil {
			Expect(variable.ValueFrom.FieldRef.FieldPath).To(Equal("metadata.namespace"))
			variable.Value = namespace
		}
		spec.Env = append(spec.Env, variable.Name+"="+variable.Value)
	}
	for _, arg := range container.Args {
		spec.Args = append(spec.Args, os.Expand(strings.NewReplacer("$(", "${", ")", "}").Replace(arg), func(name string) string {
			Expect(name).To(Equal("POD_NAMESPACE"))
			return namespace
		}))
	}
	process, err := server.ControlPlane().Start(spec)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx context.Context) {
		if CurrentSpecReport().Failed() {
			AddReportEntry("the operator", process.Tail(30))
		}
		Expect(process.Stop(ctx)).To(Succeed())
	})
	return process
}

// get asks the operator for a page.
func get(ctx context.Context, url string) string {
	GinkgoHelper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	Expect(err).NotTo(HaveOccurred())
	transport := &http.Transport{DialContext: server.ControlPlane().Dial}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(response.Body.Close()).To(Succeed()) }()
	body, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return string(body)
}
