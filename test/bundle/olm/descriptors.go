package olm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// describe fills in what the schema of a CRD says of its kind: name, version, description, and a descriptor for every
// field right below spec and status. Scorecard asks for all of these.
func describe(crd *apiextensionsv1.CustomResourceDefinition, owned OwnedCRD) (OwnedCRD, error) {
	if len(crd.Spec.Versions) != 1 {
		return OwnedCRD{}, fmt.Errorf("%s has %d versions and not one", crd.Name, len(crd.Spec.Versions))
	}
	version := crd.Spec.Versions[0]
	schema := version.Schema.OpenAPIV3Schema
	owned.Name, owned.Version, owned.Kind = crd.Name, version.Name, crd.Spec.Names.Kind
	owned.DisplayName = words(owned.Kind)
	owned.Description = schema.Description
	owned.SpecDescriptors = descriptors(schema.Properties["spec"])
	owned.StatusDescriptors = descriptors(schema.Properties["status"])
	return owned, nil
}

func descriptors(schema apiextensionsv1.JSONSchemaProps) []Descriptor {
	var all []Descriptor
	for _, path := range slices.Sorted(maps.Keys(schema.Properties)) {
		d := Descriptor{Path: path, DisplayName: words(path), Description: schema.Properties[path].Description}
		if path == "conditions" {
			d.XDescriptors = []string{"urn:alm:descriptor:io.kubernetes.conditions"}
		}
		all = append(all, d)
	}
	return all
}

// words turns a name of camel case into words: nodeSelector into Node Selector. Abbreviations stay together.
func words(name string) string {
	if name == "ipvs" {
		return "IPVS"
	}
	var text strings.Builder
	letters := []rune(name)
	for i, letter := range letters {
		if i == 0 {
			letter = unicode.ToUpper(letter)
		} else if unicode.IsUpper(letter) &&
			(unicode.IsLower(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1])) {
			text.WriteByte(' ')
		}
		text.WriteRune(letter)
	}
	return text.String()
}
