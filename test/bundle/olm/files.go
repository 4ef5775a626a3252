package olm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// files writes everything down.
func (b *bundle) files() (map[string][]byte, error) {
	files := map[string][]byte{}
	put := func(path string, content any) error {
		text, err := yaml.Marshal(content)
		if err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		if _, taken := files[path]; taken {
			return fmt.Errorf("two objects have the file %s", path)
		}
		files[path] = text
		return nil
	}
	if err := put("bundle/manifests/"+b.options.Package+".clusterserviceversion.yaml", b.csv); err != nil {
		return nil, err
	}
	for _, object := range b.plain {
		object = object.DeepCopy()
		object.SetNamespace("") // OLM chooses it
		if err := put("bundle/manifests/"+fileName(object), object.Object); err != nil {
			return nil, err
		}
	}
	if err := put("bundle/tests/scorecard/config.yaml", b.scorecard.Object); err != nil {
		return nil, err
	}
	annotations := b.annotations()
	if err := put("bundle/metadata/annotations.yaml", map[string]any{"annotations": annotations}); err != nil {
		return nil, err
	}
	if properties := b.properties(); len(properties) > 0 {
		if err := put("bundle/metadata/properties.yaml", map[string]any{"properties": properties}); err != nil {
			return nil, err
		}
	}
	files["bundle.Dockerfile"] = dockerfile(annotations)
	return files, nil
}

// fileName is the name that operator-sdk gives to the file of an object.
func fileName(object *unstructured.Unstructured) string {
	kind := object.GroupVersionKind()
	if kind.Kind == "CustomResourceDefinition" {
		plural, group, _ := strings.Cut(object.GetName(), ".")
		return group + "_" + plural + ".yaml"
	}
	parts := slices.DeleteFunc([]string{object.GetName(), kind.Group, kind.Version, strings.ToLower(kind.Kind)},
		func(part string) bool { return part == "" })
	return strings.Join(parts, "_") + ".yaml"
}

// annotations tell what is where in the bundle, and which catalog entry it belongs to.
func (b *bundle) annotations() map[string]string {
	const bundle, test = "operators.operatorframework.io.bundle.", "operators.operatorframework.io.test."
	return map[string]string{
		bundle + "mediatype.v1":       "registry+v1",
		bundle + "manifests.v1":       "manifests/",
		bundle + "metadata.v1":        "metadata/",
		bundle + "package.v1":         b.options.Package,
		bundle + "channels.v1":        strings.Join(b.options.Channels, ","),
		bundle + "channel.default.v1": b.options.Channels[0],
		test + "mediatype.v1":         "scorecard+v1",
		test + "config.v1":            "tests/scorecard/",
	}
}

// property is a fact about the bundle that OLM acts on.
type property struct {
	Type  string         `json:"type"`
	Value map[string]any `json:"value"`
}

// properties name the objects that OLM is to leave out where the cluster does not know their kinds, instead of failing.
func (b *bundle) properties() []property {
	var optional []map[string]string
	for _, object := range b.plain {
		if kind := object.GroupVersionKind(); kind.Group == "monitoring.coreos.com" {
			optional = append(optional, map[string]string{"group": kind.Group, "kind": kind.Kind, "name": object.GetName()})
		}
	}
	if optional == nil {
		return nil
	}
	slices.SortFunc(optional, func(a, b map[string]string) int {
		return cmp.Or(cmp.Compare(a["kind"], b["kind"]), cmp.Compare(a["name"], b["name"]))
	})
	return []property{{Type: "olm.manifests.optional", Value: map[string]any{"manifests": optional}}}
}

// dockerfile makes an image of the bundle. Its labels are the annotations.
func dockerfile(annotations map[string]string) []byte {
	var text strings.Builder
	fmt.Fprintln(&text, "# Written by make bundle.")
	fmt.Fprintln(&text, "FROM scratch")
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		fmt.Fprintf(&text, "LABEL %s=%s\n", name, annotations[name])
	}
	for _, dir := range []string{"manifests", "metadata", "tests/scorecard"} {
		fmt.Fprintf(&text, "COPY bundle/%s /%s/\n", dir, dir)
	}
	return []byte(text.String())
}
