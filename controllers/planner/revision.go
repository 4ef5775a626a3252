package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// HashVersion is part of everything that is hashed. Change it when new settings have to be named in another way. What
// is named already keeps its name, so that a new release sends no node through an update.
const HashVersion = "1"

// hashLength is the number of hexadecimal digits in the name of a revision. With the longest name of a config (63
// characters) the revision stays within the 80 characters that the API allows.
const hashLength = 10

// Revision is the settings that a config has or had, under the name that nodes and statuses know them by.
type Revision struct {
	Name   string
	Config string
	// Number orders the revisions of a config: the highest is the latest.
	Number   int64
	Settings v1alpha1.ProxySettings
	// OnRelease is spec.onRelease of the config, on its latest revision. It is what is left of it when it is deleted.
	OnRelease v1alpha1.ReleasePolicy
}

// RevisionName names settings: the name of the config they come from and a hash over them.
//
// The hash is over the settings as they were written, as JSON with sorted keys. Fields that are not set are not in
// it, so a release that brings new fields, or other defaults for old ones, does not rename what people wrote before.
// Nothing else of a config is in it, so another priority or selector does not either.
func RevisionName(config string, settings v1alpha1.ProxySettings) string {
	sum := sha256.Sum256(append([]byte(HashVersion+"\n"), canonical(settings)...))
	return config + "-" + hex.EncodeToString(sum[:])[:hashLength]
}

// nameFor returns the name that settings have already, or else a new one. Settings are compared for what they mean, so
// it makes no difference which release hashed them.
func nameFor(config string, settings *v1alpha1.ProxySettings, known []Revision) string {
	name := RevisionName(config, *settings)
	older := ""
	for i := range known {
		r := &known[i]
		if r.Config != config || !apiequality.Semantic.DeepEqual(&r.Settings, settings) {
			continue
		}
		if r.Name == name {
			return name
		}
		if older == "" || r.Name < older {
			older = r.Name
		}
	}
	if older != "" {
		return older
	}
	return name
}

// canonical returns the settings as JSON that does not depend on the order of the fields in the Go type.
func canonical(settings v1alpha1.ProxySettings) []byte {
	var tree map[string]any
	text, err := json.Marshal(settings)
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}
	if err == nil {
		text, err = json.Marshal(tree)
	}
	if err != nil {
		panic(fmt.Sprintf("settings are plain values and always have a JSON form: %v", err))
	}
	return text
}
