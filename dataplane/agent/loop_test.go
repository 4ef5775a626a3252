package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

func TestADeletionIsNotLostWhenEverythingIsComputedAgain(t *testing.T) {
	entry := func(name string, service *forwarding.Service) catalog.Entry {
		return catalog.Entry{Name: types.NamespacedName{Namespace: "ns", Name: name}, Service: service}
	}
	lives := &forwarding.Service{}
	got := withDeleted(
		[]catalog.Entry{entry("changed", lives), entry("unchanged", lives)},
		[]catalog.Entry{entry("changed", lives), entry("deleted", nil)})
	var names []string
	for _, e := range got {
		names = append(names, e.Name.Name)
	}
	if diff := cmp.Diff([]string{"changed", "unchanged", "deleted"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
