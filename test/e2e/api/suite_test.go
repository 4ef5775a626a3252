// Package api tests what the API server makes of the two kinds: what it refuses and with which words, what it fills
// in, and what kubectl shows.
package api

import (
	"context"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestAPI(t *testing.T) {
	specs.Run(t, "test/e2e/api")
}

var server *cluster.Cluster

var _ = BeforeSuite(func(ctx context.Context) {
	var err error
	server, err = cluster.Start(ctx, cluster.Options{})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(server.Stop)
	kubectl(ctx, "apply", "--filename=../../../config/crd/bases")
	kubectl(ctx, "wait", "--for=condition=Established", "customresourcedefinition", "--all")
})

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := server.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}
