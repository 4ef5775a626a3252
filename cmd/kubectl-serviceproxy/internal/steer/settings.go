// Package steer changes pools: it pauses and resumes their rollouts, tries them again, and takes their settings back.
package steer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

// Change is what becomes of one field. A value is its JSON; it is empty where the field is not set.
type Change struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func (c Change) String() string {
	value := func(text string) string {
		if text == "" {
			return "(unset)"
		}
		return text
	}
	return fmt.Sprintf("%s: %s -> %s", c.Path, value(c.Before), value(c.After))
}

// Compare returns what changes between two values that have a JSON form, by path. Lists are compared as a whole.
func Compare(path string, before, after any) ([]Change, error) {
	old, err := flatten(path, before)
	if err != nil {
		return nil, err
	}
	now, err := flatten(path, after)
	if err != nil {
		return nil, err
	}
	paths := maps.Clone(old)
	maps.Copy(paths, now)
	var changes []Change
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if old[path] != now[path] {
			changes = append(changes, Change{Path: path, Before: old[path], After: now[path]})
		}
	}
	return changes, nil
}

// flatten returns the fields of a value by their paths.
func flatten(path string, value any) (map[string]string, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", path, err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("reading %s again: %w", path, err)
	}
	fields := map[string]string{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		below, isMap := value.(map[string]any)
		if !isMap {
			leaf, _ := json.Marshal(value) // it was made of JSON
			fields[path] = strings.Trim(string(leaf), `"`)
			return
		}
		for key, value := range below {
			walk(path+"."+key, value)
		}
	}
	walk(path, tree)
	return fields, nil
}

// Choose returns the revision that a config is to go back to. wanted is its name, the end of its name after the name of
// the config, or its number; without one it is what the last completed rollout left on the nodes, if the config says
// something else now, or else the latest settings that are not those of the config. Revisions are the latest first.
func Choose(config *v1alpha1.ServiceProxyConfig, revisions []planner.Revision, wanted string) (*planner.Revision, error) {
	if wanted != "" {
		for i := range revisions {
			r := &revisions[i]
			if r.Name == wanted || r.Name == config.Name+"-"+wanted || strconv.FormatInt(r.Number, 10) == wanted {
				return r, nil
			}
		}
		return nil, fmt.Errorf("pool %s has no revision %q; it has %s", config.Name, wanted, names(revisions))
	}
	var latest *planner.Revision
	for i := range revisions {
		r := &revisions[i]
		if apiequality.Semantic.DeepEqual(r.Settings, config.Spec.ProxySettings) {
			continue
		}
		if r.Name == config.Status.CurrentRevision {
			return r, nil
		}
		if latest == nil {
			latest = r
		}
	}
	if latest == nil {
		return nil, fmt.Errorf("pool %s has had no other settings that are known: there is nothing to go back to", config.Name)
	}
	return latest, nil
}

func names(revisions []planner.Revision) string {
	if len(revisions) == 0 {
		return "none: the operator has not looked at it yet"
	}
	texts := make([]string, 0, len(revisions))
	for _, r := range revisions {
		texts = append(texts, fmt.Sprintf("%s (number %d)", r.Name, r.Number))
	}
	return strings.Join(texts, ", ")
}
