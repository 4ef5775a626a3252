package gitops

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestGitOps(t *testing.T) {
	specs.Run(t, "test/gitops")
}

// root is the folder of the repository.
const root = "../.."

var server *cluster.Cluster

var _ = BeforeSuite(func(ctx context.Context) {
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	var err error
	server, err = cluster.Start(ctx, cluster.Options{})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(server.Stop)
	kubectl(ctx, "apply", "--server-side", "--kustomize="+root+"/config/default")
	kubectl(ctx, "wait", "--for=condition=Established", "customresourcedefinition", "--all")
})

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := server.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}
