package gitops

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/kustomize"
)

var _ = Describe("config/", func() {
	It("can be built folder by folder", func() {
		folders, err := filepath.Glob(root + "/config/*/kustomization.yaml")
		Expect(err).NotTo(HaveOccurred())
		Expect(folders).NotTo(BeEmpty())
		for _, path := range folders {
			objects, err := kustomize.Build(filepath.Dir(path))
			Expect(err).NotTo(HaveOccurred())
			Expect(objects).NotTo(BeEmpty(), path)
		}
	})

	It("holds samples for every common need, none of which takes a node from another", func(ctx context.Context) {
		files, err := filepath.Glob(root + "/config/samples/*.yaml")
		Expect(err).NotTo(HaveOccurred())
		holders := map[int32]string{}
		for _, path := range files {
			if filepath.Base(path) == "kustomization.yaml" {
				continue
			}
			By(filepath.Base(path))
			kubectl(ctx, "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename="+path)
			text, err := os.ReadFile(path)
			Expect(err).NotTo(HaveOccurred())
			for document := range strings.SplitSeq(string(text), "\n---\n") {
				sample := &v1alpha1.ServiceProxyConfig{}
				Expect(yaml.UnmarshalStrict([]byte(document), sample)).To(Succeed())
				Expect(sample.Kind).To(Equal("ServiceProxyConfig"))
				priority := int32(0)
				if sample.Spec.Priority != nil {
					priority = *sample.Spec.Priority
				}

				Expect(holders).NotTo(HaveKey(priority), "%s has the priority of another sample", path)
				holders[priority] = path
			}
		}
		Expect(len(holders)).To(BeNumerically(">=", 8))
	})

	It("holds optional parts that the API server accepts", func(ctx context.Context) {
		kubectl(ctx, "apply", "--server-side", "--kustomize="+root+"/config/networkpolicy")
		policies := kubectl(ctx, "get", "networkpolicies", "--namespace=service-proxy-system", "--output=name")
		Expect(policies).To(ContainSubstring("service-proxy-operator"))
	})

	It("lets people be bound to roles that see, edit or do everything", func(ctx context.Context) {
		for role, want := range map[string]map[string]string{
			"service-proxy-viewer": {"get spc": "yes", "get spn": "yes", "patch spc": "no", "delete spn": "no"},
			"service-proxy-editor": {"create spc": "yes", "delete spc": "yes", "get spn": "yes", "patch spn": "no"},
			"service-proxy-admin":  {"create spc": "yes", "patch spn": "yes", "patch spn --subresource=status": "yes"},
		} {
			kubectl(ctx, "create", "clusterrolebinding", "somebody", "--clusterrole="+role, "--user=somebody")
			for question, answer := range want {
				Eventually(func() string {
					out, _ := server.Kubectl(ctx, append(strings.Fields("auth can-i "+question), "--as=somebody")...)
					return strings.TrimSpace(out)
				}).Should(Equal(answer), "%s: %s", role, question)
			}
			kubectl(ctx, "delete", "clusterrolebinding", "somebody")
		}
	})

	It("teaches Argo CD both kinds and leaves alone what it was told before", func(ctx context.Context) {
		kube := server.Client()
		Expect(kube.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "argocd"}})).To(Succeed())
		theirs := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "argocd", Name: "argocd-cm"},
			Data:       map[string]string{"url": "https://argocd.example.com"},
		}
		Expect(kube.Create(ctx, theirs)).To(Succeed())
		kubectl(ctx, "apply", "--server-side", "--kustomize="+root+"/config/argocd")
		now := &corev1.ConfigMap{}
		Expect(kube.Get(ctx, types.NamespacedName{Namespace: "argocd", Name: "argocd-cm"}, now)).To(Succeed())
		Expect(now.Data).To(HaveLen(3))
		Expect(now.Data).To(HaveKeyWithValue("url", theirs.Data["url"]))
		for _, kind := range []string{"ServiceProxyConfig", "ServiceProxyNode"} {
			script, err := os.ReadFile(root + "/config/argocd/" + kind + ".lua")
			Expect(err).NotTo(HaveOccurred())
			Expect(now.Data).To(HaveKeyWithValue("resource.customizations.health.serviceproxy.io_"+kind, string(script)))
		}
		Expect(kube.Delete(ctx, now, client.Preconditions{UID: &now.UID})).To(Succeed())
	})
})
