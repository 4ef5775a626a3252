package gitops_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/gitops"
)

func TestWarning(t *testing.T) {
	flux := map[string]string{"kustomize.toolkit.fluxcd.io/name": "configs", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
	const owned = `{"f:spec":{"f:mode":{},"f:masquerade":{"f:bit":{}},"f:probes":{"k:{\"name\":\"web\"}":{".":{}}}}}`
	const advice = " keeps this pool as it is in Git and will undo the change of "
	tests := map[string]struct {
		object metav1.ObjectMeta
		paths  []string
		want   string
	}{
		"nobody": {metav1.ObjectMeta{ManagedFields: writtenBy("kubectl", owned)}, []string{"spec.mode"}, ""},
		"Flux writes it": {metav1.ObjectMeta{Labels: flux, ManagedFields: writtenBy("kustomize-controller", owned)},
			[]string{"spec.mode"},
			"Flux (Kustomization flux-system/configs)" + advice + "spec.mode. " +
				"Change it in Git instead, or run this before: flux suspend kustomization configs -n flux-system"},
		"Flux writes something else": {metav1.ObjectMeta{Labels: flux, ManagedFields: writtenBy("kustomize-controller", owned)},
			[]string{"spec.rollout.state"}, ""},
		"another writes it besides Flux": {metav1.ObjectMeta{Labels: flux, ManagedFields: append(
			writtenBy("kubectl", `{"f:spec":{"f:rollout":{"f:state":{}}}}`), writtenBy("kustomize-controller", owned)...)},
			[]string{"spec.rollout.state"}, ""},
		"Helm by Flux, and nobody knows what it writes": {
			metav1.ObjectMeta{Labels: map[string]string{"helm.toolkit.fluxcd.io/name": "proxy", "helm.toolkit.fluxcd.io/namespace": "infra"}},
			[]string{"spec.mode"},
			"Flux (HelmRelease infra/proxy)" + advice + "spec.mode. " +
				"Change it in Git instead, or run this before: flux suspend helmrelease proxy -n infra"},
		"Argo CD writes some": {metav1.ObjectMeta{
			Name:          "default",
			Annotations:   map[string]string{"argocd.argoproj.io/tracking-id": "configs:serviceproxy.io/ServiceProxyConfig:/default"},
			ManagedFields: writtenBy("argocd-controller", owned)},
			[]string{"spec.masquerade.bit", "spec.conntrack.max"},
			"Argo CD (Application configs)" + advice + "spec.masquerade.bit. " +
				"Change it in Git instead, or run this before: argocd app set configs --sync-policy none"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if keeper := gitops.KeeperOf(&test.object); keeper != nil {
				got = keeper.Warning(test.paths...)
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func writtenBy(manager, fields string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{{Manager: manager, FieldsV1: metav1.NewFieldsV1(fields)}}
}
