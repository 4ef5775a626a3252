package bundle

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/serviceproxy/service-proxy-operator/test/bundle/olm"
	"github.com/serviceproxy/service-proxy-operator/test/kustomize"
)

// Everything that kubectl would apply from config/default is in the bundle, or made by OLM because of it, and nothing
// else is, besides monitoring.
func TestComplete(t *testing.T) {
	applied := map[string]int{}
	for _, dir := range []string{"config/default", "config/prometheus"} {
		for _, object := range build(t, dir) {
			applied[object.GetKind()]++
			if strings.HasSuffix(object.GetKind(), "Role") {
				applied["rules"] += len(rules(t, object))
			}
		}
	}

	m := load(t)
	bundled := map[string]int{}
	for _, object := range m.objects {
		bundled[object.GetKind()]++
		if object.GetKind() == "ClusterRole" {
			bundled["rules"] += len(rules(t, object))
		}
	}
	install := m.csv.Spec.Install.Spec
	bundled["Deployment"] += len(install.Deployments)
	accounts := map[string]bool{}
	for kind, list := range map[string][]olm.Permissions{"ClusterRole": install.ClusterPermissions, "Role": install.Permissions} {
		for _, p := range list {
			accounts[p.ServiceAccountName] = true
			bundled[kind]++
			bundled[kind+"Binding"]++
			bundled["rules"] += len(p.Rules)
		}
	}
	bundled["ServiceAccount"] += len(accounts)
	if m.csv.Annotations["operatorframework.io/suggested-namespace-template"] != "" {
		bundled["Namespace"]++
	}
	if diff := cmp.Diff(applied, bundled); diff != "" {
		t.Errorf("objects that kubectl applies and those that OLM makes (-applied +made):\n%s", diff)
	}
}

// Every account may do with OLM exactly what it may do without.
func TestPermissions(t *testing.T) {
	roles, want := map[string][]rbacv1.PolicyRule{}, map[string][]rbacv1.PolicyRule{}
	objects := build(t, "config/default")
	for _, object := range objects {
		if strings.HasSuffix(object.GetKind(), "Role") {
			roles[object.GetKind()+"/"+object.GetName()] = rules(t, object)
		}
	}
	for _, object := range objects {
		if !strings.HasSuffix(object.GetKind(), "RoleBinding") {
			continue
		}
		binding := &rbacv1.RoleBinding{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, binding); err != nil {
			t.Fatal(err)
		}
		for _, subject := range binding.Subjects {
			key := binding.Kind + " of " + subject.Name
			want[key] = append(want[key], roles[binding.RoleRef.Kind+"/"+binding.RoleRef.Name]...)
		}
	}
	got := map[string][]rbacv1.PolicyRule{}
	install := load(t).csv.Spec.Install.Spec
	for _, p := range install.ClusterPermissions {
		got["ClusterRoleBinding of "+p.ServiceAccountName] = p.Rules
	}
	for _, p := range install.Permissions {
		got["RoleBinding of "+p.ServiceAccountName] = p.Rules
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-kubectl +OLM):\n%s", diff)
	}
}

// What has no place in a bundle is an error, where operator-sdk leaves it out.
func TestNoPlace(t *testing.T) {
	tests := map[string]struct {
		object string
		want   string
	}{
		"a DaemonSet": {
			object: `{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d"}}`,
			want:   "a bundle cannot hold the DaemonSet d",
		},
		"a policy": {
			object: `{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}}`,
			want:   "a bundle cannot hold the ValidatingAdmissionPolicy p",
		},
		"an account without rights": {
			object: `{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}`,
			want:   "service account a has no permission",
		},
		"a role that nobody has": {
			object: `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}}`,
			want:   "role r is bound to nobody",
		},
		"rights of somebody else": {
			object: `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
				"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "service-proxy-viewer"},
				"subjects": [{"kind": "Group", "name": "everybody"}]}`,
			want: "ClusterRoleBinding b is for Group everybody",
		},
		"rights in another namespace": {
			object: `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
				"metadata": {"name": "b", "namespace": "kube-system"},
				"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "service-proxy-viewer"},
				"subjects": [{"kind": "ServiceAccount", "name": "service-proxy-operator", "namespace": "service-proxy-system"}]}`,
			want: "RoleBinding b is in namespace kube-system",
		},
		"rights by a role that is not there": {
			object: `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
				"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gone"},
				"subjects": [{"kind": "ServiceAccount", "name": "service-proxy-operator"}]}`,
			want: "refers to the missing ClusterRole gone",
		},
		"a field that its kind does not have": {
			object: `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replica": 2}}`,
			want:   `unknown field "spec.replica"`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			more := &unstructured.Unstructured{}
			if err := json.Unmarshal([]byte(test.object), more); err != nil {
				t.Fatal(err)
			}
			_, err := olm.Make(append(build(t, "config/manifests"), more), olm.Options{Package: "p", Channels: []string{"c"}})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, without %q", err, test.want)
			}
		})
	}
}

// A release names images by digest.
func TestDigests(t *testing.T) {
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	operator, agent := "ghcr.io/serviceproxy/service-proxy-operator", "ghcr.io/serviceproxy/service-proxy-agent"
	files, err := olm.Make(build(t, "config/manifests"), olm.Options{
		Package: packageName, Channels: []string{"stable", "candidate"},
		Images: map[string]string{operator: operator + digest, agent: agent + digest},
	})
	if err != nil {
		t.Fatal(err)
	}
	csv := string(files["bundle/manifests/"+packageName+".clusterserviceversion.yaml"])
	// In the annotation and in relatedImages, and where it is used.
	for reference, times := range map[string]int{operator + digest: 3, agent + digest: 2} {
		if n := strings.Count(csv, reference); n != times {
			t.Errorf("%s stands there %d times and not %d", reference, n, times)
		}
	}
	if !strings.Contains(string(files["bundle.Dockerfile"]), "channel.default.v1=stable\n") {
		t.Error("the first channel is not the default one")
	}
	if paths := slices.Sorted(maps.Keys(files)); len(paths) < 10 {
		t.Errorf("there are only the files %q", paths)
	}
}

func build(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := kustomize.Build(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// rules are those of a Role or ClusterRole.
func rules(t *testing.T, object *unstructured.Unstructured) []rbacv1.PolicyRule {
	t.Helper()
	role := &rbacv1.ClusterRole{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, role); err != nil {
		t.Fatal(err)
	}
	return role.Rules
}
