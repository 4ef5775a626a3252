package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// hashVersion is part of everything that is hashed. Change it when the same settings have to get another name, and
// know that this sends every node of every cluster through an update.
const hashVersion = "1"

// hashLength is the number of hexadecimal digits in the name of a revision. With the longest name of a config (63
// characters) the revision stays within the 80 characters that the API allows.
const hashLength = 10

// Revision names settings: the name of the config they come from and a hash over them.
//
// The hash is over the settings as they were written, as JSON with sorted keys. Fields that are not set are not in
// it, so a release that brings new fields, or other defaults for old ones, does not rename what people wrote before.
// Nothing else of a config is in it, so another priority or selector does not either.
func Revision(config string, settings v1alpha1.ProxySettings) string {
	sum := sha256.Sum256(append([]byte(hashVersion+"\n"), canonical(settings)...))
	return config + "-" + hex.EncodeToString(sum[:])[:hashLength]
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
