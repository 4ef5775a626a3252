package steer_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/steer"
	"github.com/serviceproxy/service-proxy-operator/controllers/planner"
)

func settings(mode v1alpha1.Mode, bit int32) v1alpha1.ProxySettings {
	return v1alpha1.ProxySettings{Mode: mode, Masquerade: v1alpha1.Masquerade{Bit: &bit}}
}

func TestCompare(t *testing.T) {
	before, after := settings(v1alpha1.ModeIPTables, 20), settings(v1alpha1.ModeIPVS, 14)
	before.Probes = []v1alpha1.Probe{{Name: "web"}}
	after.IPVS.Scheduler = v1alpha1.SchedulerRoundRobin
	changes, err := steer.Compare("spec", before, after)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.String())
	}
	want := []string{
		"spec.ipvs.scheduler: (unset) -> rr",
		"spec.masquerade.bit: 20 -> 14",
		"spec.mode: iptables -> IPVS",
		`spec.probes: [{"name":"web"}] -> (unset)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("other changes (-want +got):\n%s", diff)
	}
}

func TestChoose(t *testing.T) {
	revisions := []planner.Revision{
		{Name: "default-c", Number: 3, Settings: settings(v1alpha1.ModeIPVS, 3)},
		{Name: "default-b", Number: 2, Settings: settings(v1alpha1.ModeIPVS, 2)},
		{Name: "default-a", Number: 1, Settings: settings(v1alpha1.ModeIPVS, 1)},
	}
	tests := map[string]struct {
		bit       int32
		current   string
		revisions []planner.Revision
		wanted    string
		want      string
	}{
		"what the last rollout left":         {3, "default-a", revisions, "", "default-a"},
		"nothing is under way":               {3, "default-c", revisions, "", "default-b"},
		"no rollout was ever completed":      {3, "", revisions, "", "default-b"},
		"the operator has not looked yet":    {4, "default-c", revisions, "", "default-c"},
		"by name":                            {3, "default-c", revisions, "default-a", "default-a"},
		"by the end of the name":             {3, "default-c", revisions, "a", "default-a"},
		"by number":                          {3, "default-c", revisions, "1", "default-a"},
		"a revision that is not there":       {3, "", revisions, "x", `pool default has no revision "x"; it has default-c (number 3), default-b (number 2), default-a (number 1)`},
		"there have been no others":          {3, "default-c", revisions[:1], "", "pool default has had no other settings that are known: there is nothing to go back to"},
		"one is asked for and none is known": {3, "", nil, "x", `pool default has no revision "x"; it has none: the operator has not looked at it yet`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config := &v1alpha1.ServiceProxyConfig{}
			config.Name, config.Spec.ProxySettings, config.Status.CurrentRevision = "default", settings(v1alpha1.ModeIPVS, test.bit), test.current
			revision, err := steer.Choose(config, test.revisions, test.wanted)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = revision.Name
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
