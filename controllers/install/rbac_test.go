package install_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// verbs are all that RBAC knows.
var verbs = []string{
	"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind", "escalate", "impersonate",
}

// resources are those that an account of ours might be tempted by: "resource" or "resource.group".
var resources = strings.Fields(`
	nodes nodes/status nodes/proxy services services/status services/proxy pods pods/exec pods/status pods/binding secrets
	configmaps namespaces serviceaccounts serviceaccounts/token users groups endpoints events persistentvolumes
	daemonsets.apps daemonsets.apps/status deployments.apps controllerrevisions.apps statefulsets.apps
	endpointslices.discovery.k8s.io servicecidrs.networking.k8s.io ipaddresses.networking.k8s.io
	networkpolicies.networking.k8s.io ingresses.networking.k8s.io events.events.k8s.io leases.coordination.k8s.io
	roles.rbac.authorization.k8s.io rolebindings.rbac.authorization.k8s.io
	clusterroles.rbac.authorization.k8s.io clusterrolebindings.rbac.authorization.k8s.io
	validatingadmissionpolicies.admissionregistration.k8s.io validatingadmissionpolicybindings.admissionregistration.k8s.io
	validatingwebhookconfigurations.admissionregistration.k8s.io mutatingwebhookconfigurations.admissionregistration.k8s.io
	customresourcedefinitions.apiextensions.k8s.io apiservices.apiregistration.k8s.io
	certificatesigningrequests.certificates.k8s.io certificatesigningrequests.certificates.k8s.io/approval
	serviceproxyconfigs.serviceproxy.io serviceproxyconfigs.serviceproxy.io/status
	serviceproxynodes.serviceproxy.io serviceproxynodes.serviceproxy.io/status
	userextras.authentication.k8s.io tokenreviews.authentication.k8s.io subjectaccessreviews.authorization.k8s.io
	priorityclasses.scheduling.k8s.io poddisruptionbudgets.policy storageclasses.storage.k8s.io
	flowschemas.flowcontrol.apiserver.k8s.io`)

// places are where accounts are tried: everywhere and anything, in the namespace of the operator and in another, and
// objects by the names that rights are given to.
var places = []struct{ namespace, name string }{
	{"", ""}, {namespace, ""}, {"kube-system", ""},
	{namespace, "service-proxy-agent-guard"}, {namespace, "service-proxy-agent"}, {namespace, "service-proxy-api-servers"},
	{namespace, "serviceproxynodes.serviceproxy.io"}, {namespace, "kubernetes"}, {"kube-system", "service-proxy-agent"},
}

// grant is what an account may do with a resource; "": in every namespace, or to objects of every name.
type grant struct{ resource, namespace, name, verbs string }

func (g grant) covers(resource, namespace, name, verb string) bool {
	return g.resource == resource && (g.namespace == "" || g.namespace == namespace) && (g.name == "" || g.name == name) &&
		slices.Contains(strings.Fields(g.verbs), verb)
}

var _ = Describe("RBAC", func() {
	// What the API server answers to whoever has the token of a Pod.
	DescribeTable("gives what is needed and refuses everything else", func(ctx context.Context, access func() *rest.Config, grants []grant) {
		account := as(access())
		var group errgroup.Group
		group.SetLimit(8)
		for _, resource := range resources {
			for _, place := range places {
				for _, verb := range verbs {
					group.Go(func() error {
						want := slices.ContainsFunc(grants, func(g grant) bool { return g.covers(resource, place.namespace, place.name, verb) })
						got, err := may(ctx, account, resource, place.namespace, place.name, verb)
						if err == nil && got != want {
							err = fmt.Errorf("%s %s in %q named %q: allowed is %t", verb, resource, place.namespace, place.name, got)
						}
						return err
					})
				}
			}
		}
		Expect(group.Wait()).To(Succeed())
	},
		Entry("to an agent", func() *rest.Config { return asAgents["a"] }, []grant{
			{"nodes", "", "", "get list watch"},
			{"services", "", "", "get list watch"},
			{"endpointslices.discovery.k8s.io", "", "", "get list watch"},
			{"servicecidrs.networking.k8s.io", "", "", "get list watch"},
			{"serviceproxynodes.serviceproxy.io", "", "", "get list watch"},
			{"serviceproxynodes.serviceproxy.io/status", "", "", "patch"},
			{"events", "", "", "create patch"},
		}),
		Entry("to the operator", func() *rest.Config { return asOperator }, []grant{
			{"nodes", "", "", "get list watch"},
			{"serviceproxyconfigs.serviceproxy.io", "", "", "get list watch"},
			{"serviceproxyconfigs.serviceproxy.io/status", "", "", "patch"},
			{"serviceproxynodes.serviceproxy.io", "", "", "get list watch create patch delete"},
			{"events", "", "", "create patch"},
			{"events.events.k8s.io", "", "", "create patch"},
			{"validatingadmissionpolicies.admissionregistration.k8s.io", "", "service-proxy-agent-guard", "get list watch create patch"},
			{"validatingadmissionpolicybindings.admissionregistration.k8s.io", "", "service-proxy-agent-guard", "get list watch create patch"},
			{"customresourcedefinitions.apiextensions.k8s.io", "", "serviceproxynodes.serviceproxy.io", "get"},
			{"endpointslices.discovery.k8s.io", "", "kubernetes", "get list watch"},
			{"leases.coordination.k8s.io", namespace, "", "get create update"},
			{"daemonsets.apps", namespace, "service-proxy-agent", "get list watch create patch"},
			{"controllerrevisions.apps", namespace, "", "get list watch create patch delete"},
			{"pods", namespace, "", "get list watch"},
			{"configmaps", namespace, "service-proxy-api-servers", "get list watch create patch"},
		}),
	)
})

// may asks the API server whether an account may do something.
func may(ctx context.Context, account client.Client, resource, place, name, verb string) (bool, error) {
	resource, subresource, _ := strings.Cut(resource, "/")
	resource, group, _ := strings.Cut(resource, ".")
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: group, Resource: resource, Subresource: subresource, Namespace: place, Name: name,
		},
	}}
	err := account.Create(ctx, review)
	return review.Status.Allowed, err
}
