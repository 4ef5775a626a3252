package bundle

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"

	"github.com/serviceproxy/service-proxy-operator/test/bundle/olm"
)

const packageName = "service-proxy-operator"

// The format registry+v1: only some kinds, no namespaces, not too large.
func TestFormat(t *testing.T) {
	supported := []string{
		"ClusterServiceVersion", "CustomResourceDefinition", "Secret", "ClusterRole", "ClusterRoleBinding", "ConfigMap",
		"ServiceAccount", "Service", "Role", "RoleBinding", "PrometheusRule", "ServiceMonitor", "PodDisruptionBudget",
		"PriorityClass", "VerticalPodAutoscaler", "ConsoleYAMLSample", "ConsoleQuickStart", "ConsoleCLIDownload", "ConsoleLink",
	}
	m := load(t)
	for _, object := range m.objects {
		if !slices.Contains(supported, object.GetKind()) {
			t.Errorf("%s %s is of a kind that registry+v1 does not know", object.GetKind(), object.GetName())
		}
		if namespace := object.GetNamespace(); namespace != "" {
			t.Errorf("%s %s has the namespace %s, which OLM is to choose", object.GetKind(), object.GetName(), namespace)
		}
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(m.raw.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if limit := 1 << 20 * 85 / 100; zipped.Len() > limit {
		t.Errorf("the bundle has %d bytes in gzip, and %d are room enough", zipped.Len(), limit)
	}
}

func TestClusterServiceVersion(t *testing.T) {
	csv := load(t).csv
	if problems := validation.IsDNS1123Subdomain(csv.Name); len(problems) > 0 || len(csv.Name) > 63 {
		t.Errorf("name %q: %v", csv.Name, problems)
	}
	if want := packageName + ".v" + csv.Spec.Version; csv.Name != want {
		t.Errorf("the name is %s and not %s", csv.Name, want)
	}
	for what, text := range map[string]string{"version": csv.Spec.Version, "minKubeVersion": csv.Spec.MinKubeVersion} {
		if _, err := version.ParseSemantic(text); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, mode := range csv.Spec.InstallModes {
		if mode.Supported != (mode.Type == "AllNamespaces") {
			t.Errorf("install mode %s: supported is %t", mode.Type, mode.Supported)
		}
	}
	if len(csv.Spec.InstallModes) != 4 {
		t.Errorf("there are %d install modes and not 4", len(csv.Spec.InstallModes))
	}
	for _, required := range []string{
		"alm-examples", "capabilities", "categories", "certified", "containerImage", "createdAt", "description", "repository",
		"support", "operatorframework.io/suggested-namespace", "operatorframework.io/suggested-namespace-template",
		"operators.operatorframework.io/builder", "operators.operatorframework.io/project_layout",
		"operators.operatorframework.io/internal-objects",
	} {
		if csv.Annotations[required] == "" {
			t.Errorf("annotation %s is missing", required)
		}
	}
	for name := range csv.Annotations {
		if name == "olm.properties" {
			t.Errorf("%s belongs into metadata/properties.yaml", name)
		}
	}
	if _, err := time.Parse(time.RFC3339, csv.Annotations["createdAt"]); err != nil {
		t.Error(err)
	}
	if csv.Annotations["olm.skipRange"] != "<"+csv.Spec.Version {
		t.Errorf("the versions that can be upgraded are %q, and not all before", csv.Annotations["olm.skipRange"])
	}
	for _, label := range []string{"arch.amd64", "arch.arm64", "os.linux"} {
		if csv.Labels["operatorframework.io/"+label] != "supported" {
			t.Errorf("label %s does not say supported", label)
		}
	}
	if length := len(csv.Annotations["description"]); length > 135 {
		t.Errorf("the short description has %d characters, and catalogs cut it after 135", length)
	}
	// JSON and not YAML: consoles read it so.
	for _, name := range []string{"operatorframework.io/suggested-namespace-template", "operatorframework.io/initialization-resource"} {
		if !json.Valid([]byte(csv.Annotations[name])) {
			t.Errorf("annotation %s is no JSON", name)
		}
	}
}

// suite=operatorframework: operatorhubv2, standardcapabilities, standardcategories.
func TestCatalog(t *testing.T) {
	csv := load(t).csv
	capabilities := []string{"Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"}
	if !slices.Contains(capabilities, csv.Annotations["capabilities"]) {
		t.Errorf("capabilities %q are none of %q", csv.Annotations["capabilities"], capabilities)
	}
	if csv.Annotations["categories"] != "Networking" {
		t.Errorf("category %q", csv.Annotations["categories"])
	}
	for what, text := range map[string]string{
		"provider.name": csv.Spec.Provider.Name, "displayName": csv.Spec.DisplayName, "description": csv.Spec.Description,
		"maturity": csv.Spec.Maturity,
	} {
		if strings.TrimSpace(text) == "" {
			t.Errorf("spec.%s is empty", what)
		}
	}
	if len(csv.Spec.Keywords) == 0 || len(csv.Spec.Maintainers) == 0 || len(csv.Spec.Links) == 0 {
		t.Error("keywords, maintainers or links are missing")
	}
	for _, maintainer := range csv.Spec.Maintainers {
		if _, err := mail.ParseAddress(maintainer.Email); err != nil || maintainer.Name == "" {
			t.Errorf("maintainer %v: %v", maintainer, err)
		}
	}
	for _, link := range append(csv.Spec.Links, csv.Spec.Provider) {
		if _, err := url.ParseRequestURI(link.URL); err != nil || link.Name == "" {
			t.Errorf("link %v: %v", link, err)
		}
	}
	if len(csv.Spec.Icon) != 1 || csv.Spec.Icon[0].MediaType != "image/svg+xml" {
		t.Fatal("there has to be one icon, in SVG")
	}
	picture, err := base64.StdEncoding.DecodeString(csv.Spec.Icon[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	for decoder := xml.NewDecoder(bytes.NewReader(picture)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// suite=operatorframework: good-practices.
func TestGoodPractices(t *testing.T) {
	csv := load(t).csv
	if len(csv.Spec.Install.Spec.Deployments) == 0 {
		t.Error("nothing is deployed")
	}
	for _, deployment := range csv.Spec.Install.Spec.Deployments {
		for _, container := range deployment.Spec.Template.Spec.Containers {
			if container.Resources.Requests.Cpu().IsZero() || container.Resources.Requests.Memory().IsZero() {
				t.Errorf("container %s requests no CPU or no memory", container.Name)
			}
		}
		if *deployment.Spec.Replicas < 2 {
			t.Errorf("Deployment %s has nobody standing by", deployment.Name)
		}
	}
	install := csv.Spec.Install.Spec
	for _, permissions := range append(install.ClusterPermissions, install.Permissions...) {
		for _, rule := range permissions.Rules {
			if slices.Contains(rule.Resources, "customresourcedefinitions") && !cmp.Equal(rule.Verbs, []string{"get"}) {
				t.Errorf("%s may do more with CRDs than to look at one: %v", permissions.ServiceAccountName, rule.Verbs)
			}
			if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
				t.Errorf("%s may do anything of a sort: %v", permissions.ServiceAccountName, rule)
			}
		}
	}
	labels := annotations(t)
	const bundle = "operators.operatorframework.io.bundle."
	channels := strings.Split(labels[bundle+"channels.v1"], ",")
	for _, channel := range channels {
		if !regexp.MustCompile(`^(candidate|fast|stable)(-|$)`).MatchString(channel) {
			t.Errorf("channel %s is not named by convention", channel)
		}
	}
	if !slices.Contains(channels, labels[bundle+"channel.default.v1"]) {
		t.Error("the default channel is none of the channels")
	}
}

// Owned kinds, their CRDs and their examples are the same; and scorecard's olm-crds-have-validation,
// olm-crds-have-resources, olm-spec-descriptors, olm-status-descriptors.
func TestKinds(t *testing.T) {
	m := load(t)
	var owned, defined, shown []schema.GroupVersionKind
	for _, kind := range m.csv.Spec.CustomResourceDefinitions.Owned {
		_, group, _ := strings.Cut(kind.Name, ".")
		owned = append(owned, schema.GroupVersionKind{Group: group, Version: kind.Version, Kind: kind.Kind})
		if kind.Description == "" || kind.DisplayName == "" || len(kind.Resources) == 0 {
			t.Errorf("%s has no description, name to show, or resources", kind.Kind)
		}
	}
	for _, crd := range m.crds {
		for _, version := range crd.Spec.Versions {
			kind := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
			defined = append(defined, kind)
			i := slices.Index(owned, kind)
			if i < 0 {
				continue // told below
			}
			schema := version.Schema.OpenAPIV3Schema
			described := m.csv.Spec.CustomResourceDefinitions.Owned[i]
			for part, descriptors := range map[string][]olm.Descriptor{
				"spec": described.SpecDescriptors, "status": described.StatusDescriptors,
			} {
				var paths []string
				for _, d := range descriptors {
					paths = append(paths, d.Path)
					if d.DisplayName == "" || d.Description == "" {
						t.Errorf("%s: %s.%s is not described", kind.Kind, part, d.Path)
					}
				}
				fields := slices.Sorted(maps.Keys(schema.Properties[part].Properties))
				if diff := cmp.Diff(fields, paths); diff != "" {
					t.Errorf("%s: descriptors of %s (-want +got):\n%s", kind.Kind, part, diff)
				}
			}
		}
	}
	var examples []unstructured.Unstructured
	if err := json.Unmarshal([]byte(m.csv.Annotations["alm-examples"]), &examples); err != nil {
		t.Fatal(err)
	}
	for _, example := range examples {
		shown = append(shown, example.GroupVersionKind())
	}
	if diff := cmp.Diff(owned, defined); diff != "" {
		t.Errorf("kinds that are owned and kinds that have a CRD differ:\n%s", diff)
	}
	if diff := cmp.Diff(owned, shown); diff != "" {
		t.Errorf("kinds that are owned and kinds that have an example differ:\n%s", diff)
	}
	var hidden []string
	if err := json.Unmarshal([]byte(m.csv.Annotations["operators.operatorframework.io/internal-objects"]), &hidden); err != nil {
		t.Fatal(err)
	}
	for _, name := range hidden {
		if !slices.ContainsFunc(m.crds, func(crd *apiextensionsv1.CustomResourceDefinition) bool { return crd.Name == name }) {
			t.Errorf("%s is hidden and does not exist", name)
		}
	}
}

func TestImages(t *testing.T) {
	csv := load(t).csv
	var run []string
	for _, deployment := range csv.Spec.Install.Spec.Deployments {
		for _, container := range deployment.Spec.Template.Spec.Containers {
			run = append(run, container.Image)
			for _, variable := range container.Env {
				if strings.HasPrefix(variable.Name, "RELATED_IMAGE_") {
					run = append(run, variable.Value)
				}
			}
		}
	}
	var related []string
	for _, image := range csv.Spec.RelatedImages {
		related = append(related, image.Image)
		if !regexp.MustCompile(`^[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$`).MatchString(image.Image) {
			t.Errorf("%s is no reference with a tag or digest", image.Image)
		}
	}
	if diff := cmp.Diff(run, related); diff != "" {
		t.Errorf("images that run and images that are told (-run +told):\n%s", diff)
	}
	if len(related) != 2 {
		t.Errorf("there are %d images and not those of operator and agent: %q", len(related), related)
	}
}

func TestNoServiceAccountTwice(t *testing.T) {
	for _, object := range load(t).objects {
		// OLM makes those of the CSV, in the namespace that it installs into.
		if kind := object.GetKind(); kind == "ServiceAccount" || strings.HasSuffix(kind, "RoleBinding") {
			t.Errorf("%s %s has to come from the permissions of the CSV", kind, object.GetName())
		}
	}
}

func TestMetadata(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "bundle.Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	ignore, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch fields[0] {
		case "LABEL":
			name, value, _ := strings.Cut(fields[1], "=")
			labels[name] = value
		case "COPY":
			if _, err := os.Stat(filepath.Join(root, fields[1])); err != nil {
				t.Error(err)
			}
			if top, _, _ := strings.Cut(fields[1], "/"); !strings.Contains(string(ignore), "\n!"+top+"\n") {
				t.Errorf(".dockerignore keeps %s from the builder", fields[1])
			}
		}
	}
	if diff := cmp.Diff(annotations(t), labels); diff != "" {
		t.Errorf("annotations and labels differ:\n%s", diff)
	}
}

func TestScorecard(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "bundle/tests/scorecard/config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Stages []struct {
			Tests []struct{ Entrypoint []string }
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, stage := range config.Stages {
		for _, test := range stage.Tests {
			names = append(names, test.Entrypoint[1])
		}
	}
	want := []string{
		"basic-check-spec", "olm-bundle-validation", "olm-crds-have-validation", "olm-crds-have-resources",
		"olm-spec-descriptors", "olm-status-descriptors",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("tests (-want +got):\n%s", diff)
	}
}

// What a cluster may not know the kinds of, is optional, and right all the same.
func TestMonitoring(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "bundle/metadata/properties.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	type reference struct{ Group, Kind, Name string }
	var file struct {
		Properties []struct {
			Type  string
			Value struct{ Manifests []reference }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Properties) != 1 || file.Properties[0].Type != "olm.manifests.optional" {
		t.Fatalf("properties are %v", file.Properties)
	}
	var found []reference
	for _, object := range load(t).objects {
		var into any
		switch object.GetKind() {
		case "ServiceMonitor":
			into = &monitoringv1.ServiceMonitor{}
		case "PrometheusRule":
			into = &monitoringv1.PrometheusRule{}
		default:
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, into, true); err != nil {
			t.Errorf("%s: %v", object.GetKind(), err)
		}
		found = append(found, reference{object.GroupVersionKind().Group, object.GetKind(), object.GetName()})
	}
	optional := file.Properties[0].Value.Manifests
	if diff := cmp.Diff(len(found), len(optional)); diff != "" {
		t.Errorf("objects and optional ones: %v, %v", found, optional)
	}
	for _, r := range found {
		if !slices.Contains(optional, r) {
			t.Errorf("%v is not optional", r)
		}
	}
}
