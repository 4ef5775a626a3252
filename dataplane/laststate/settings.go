package laststate

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// Settings are what a node knows of the settings that it was assigned.
type Settings struct {
	// Good are the last that were written to the kernel, read back and proved; nil when there never were any.
	Good *Assigned `json:"good,omitempty"`
	// Failed are those that were taken back; nil when the last ones were not.
	Failed *Failed `json:"failed,omitempty"`
}

// Assigned is what a node was told to run.
type Assigned struct {
	// UID and Generation are those of the ServiceProxyNode.
	UID        types.UID              `json:"uid,omitempty"`
	Generation int64                  `json:"generation"`
	Revision   string                 `json:"revision"`
	Settings   v1alpha1.ProxySettings `json:"settings"`
}

// Failed is what was taken back, and why: the reason and message of condition RolledBack.
type Failed struct {
	Assigned
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// settings is the file of Settings.
func (f Folder) settings() file { return file{path: f.path("settings.json"), version: 1} }

// Settings reads the settings. It returns nil when there are none, and an error when there are but they cannot be
// believed.
func (f Folder) Settings() (*Settings, error) {
	var s Settings
	found, err := f.settings().read(&s)
	if err != nil || !found {
		return nil, err
	}
	return &s, nil
}

// SaveSettings replaces the settings.
func (f Folder) SaveSettings(s *Settings) error { return f.settings().write(s) }

// RemoveSettings removes the settings. It is no error if there are none.
func (f Folder) RemoveSettings() error { return f.settings().remove() }
