package access_test

import (
	"testing"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
)

func TestNoSuch(t *testing.T) {
	tests := map[string]struct {
		name  string
		names []string
		want  string
	}{
		"two swapped":   {"edeg", []string{"edge", "default"}, `there is no pool "edeg"; did you mean "edge"?`},
		"one missing":   {"edg", []string{"edge", "default"}, `there is no pool "edg"; did you mean "edge"?`},
		"one too many":  {"edgee", []string{"edge", "default"}, `there is no pool "edgee"; did you mean "edge"?`},
		"quite another": {"x", []string{"edge", "default"}, `there is no pool "x"; there are ["edge" "default"]`},
		"many":          {"x", []string{"aaa", "bbb", "ccc", "ddd", "eee", "fff"}, `there is no pool "x"; there are ["aaa" "bbb" "ccc" "ddd" "eee"] and 1 more`},
		"none":          {"x", nil, `there is no pool "x", and no other either`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := access.NoSuch("pool", test.name, test.names).Error(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
