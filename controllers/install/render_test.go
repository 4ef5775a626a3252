package install

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what is rendered to testdata")

// TestRender compares what is rendered with the YAML in testdata, which is there to be read.
func TestRender(t *testing.T) {
	const namespace = "service-proxy-system"
	owner := metav1ac.OwnerReference().
		WithAPIVersion("apiextensions.k8s.io/v1").WithKind("CustomResourceDefinition").WithName(ownerName).WithUID("uid-of-the-crd")
	agent := Agent{Image: "registry.example.com/service-proxy-agent:v1", MaxUnavailable: intstr.FromString("10%")}
	tests := map[string]runtime.ApplyConfiguration{
		"guard-policy":     guardPolicy(namespace, owner),
		"guard-binding":    guardBinding(owner),
		"agent-daemonset":  daemonSet(namespace, agent, owner),
		"agent-apiservers": apiServers(namespace, []string{"192.0.2.1:6443", "[2001:db8::1]:6443"}, owner),
	}
	for name, object := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("what is rendered has changed; if that is meant, run go test ./controllers/install -run TestRender -update\n%s", diff)
			}
		})
	}
}
