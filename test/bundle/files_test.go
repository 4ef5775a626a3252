package bundle

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/serviceproxy/service-proxy-operator/test/bundle/olm"
)

// root is the folder of the repository.
const root = "../.."

// manifests are the objects of the bundle, as OLM finds them.
type manifests struct {
	csv     *olm.ClusterServiceVersion
	crds    []*apiextensionsv1.CustomResourceDefinition
	objects []*unstructured.Unstructured // all but the CSV
	raw     *bytes.Buffer
}

// readManifests reads bundle/manifests. Everything is read strictly: a field that its kind does not have is an error.
func readManifests() (*manifests, error) {
	paths, err := filepath.Glob(filepath.Join(root, "bundle/manifests/*"))
	if err != nil {
		return nil, err
	}
	m := &manifests{raw: &bytes.Buffer{}}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		m.raw.Write(text)
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(text, &object.Object); err != nil {
			return nil, err
		}
		if object.GetKind() == "ClusterServiceVersion" {
			m.csv = &olm.ClusterServiceVersion{}
			if err := yaml.UnmarshalStrict(text, m.csv); err != nil {
				return nil, err
			}
			continue
		}
		m.objects = append(m.objects, object)
		if object.GetKind() == "CustomResourceDefinition" {
			crd := &apiextensionsv1.CustomResourceDefinition{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, crd, true); err != nil {
				return nil, err
			}
			m.crds = append(m.crds, crd)
		}
	}
	return m, nil
}

// load reads the bundle for a test.
func load(t *testing.T) *manifests {
	t.Helper()
	m, err := readManifests()
	if err != nil {
		t.Fatal(err)
	}
	if m.csv == nil {
		t.Fatal("the bundle has no ClusterServiceVersion")
	}
	return m
}

// annotations reads the labels that the bundle image is to have.
func annotations(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "bundle/metadata/annotations.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Annotations
}
