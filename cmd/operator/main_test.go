package main

import (
	"context"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestOperator(t *testing.T) {
	SetDefaultEventuallyTimeout(time.Minute)
	specs.Run(t, "cmd/operator")
}

func TestParse(t *testing.T) {
	tests := map[string]struct {
		args  []string
		elect bool
		err   string // what it says
	}{
		"in a Pod it elects":             {elect: true},
		"outside it does not":            {args: []string{"--kubeconfig=file"}},
		"outside it does when told":      {args: []string{"--kubeconfig=file", "--leader-elect"}, elect: true},
		"in a Pod it does not when told": {args: []string{"--leader-elect=false"}},
		"external is an agent":           {args: []string{"--agent=external"}, elect: true},
		"a DaemonSet is an agent":        {args: []string{"--agent=daemonset"}, elect: true},
		"nothing else is":                {args: []string{"--agent=pod"}, err: "--agent=pod is not supported"},
		"two agents at a time":           {args: []string{"--agent-max-unavailable=2"}, elect: true},
		"a third of them":                {args: []string{"--agent-max-unavailable=33%"}, elect: true},
		"no agent at a time":             {args: []string{"--agent-max-unavailable=0"}, err: "--agent-max-unavailable=0: a number"},
		"more than all":                  {args: []string{"--agent-max-unavailable=101%"}, err: "--agent-max-unavailable=101%"},
		"a part that is no number":       {args: []string{"--agent-max-unavailable=some"}, err: "--agent-max-unavailable=some"},
		"an unknown flag":                {args: []string{"--nodes=3"}, err: "unknown flag: --nodes"},
		"an argument":                    {args: []string{"start"}, err: `unknown argument "start"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse(test.args)
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got error %v, want %q", err, test.err)
				}
			case err != nil:
				t.Error(err)
			case got.leaderElect != test.elect:
				t.Errorf("leader election is %t, want %t", got.leaderElect, test.elect)
			}
		})
	}
}

var _ = Describe("the program", Ordered, func() {
	var (
		program string
		server  *cluster.Cluster
	)

	BeforeAll(func(ctx context.Context) {
		var err error
		program, err = gexec.Build("github.com/serviceproxy/service-proxy-operator/cmd/operator",
			"-ldflags", "-X main.version=v1.2.3")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(gexec.CleanupBuildArtifacts)
		server, err = cluster.Start(ctx, cluster.Options{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(server.Stop)
		crds, err := filepath.Abs("../../config/crd/bases")
		Expect(err).NotTo(HaveOccurred())
		_, err = server.Kubectl(ctx, "apply", "--filename="+crds)
		Expect(err).NotTo(HaveOccurred())
	})

	start := func(args ...string) *gexec.Session {
		GinkgoHelper()
		session, err := gexec.Start(exec.Command(program, args...), GinkgoWriter, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { session.Kill().Wait() })
		return session
	}

	It("says its version", func() {
		session := start("--version")
		Eventually(session).Should(gexec.Exit(0))
		Expect(string(session.Out.Contents())).To(Equal("v1.2.3\n"))
	})

	It("says what is missing outside a cluster", func() {
		session := start()
		Eventually(session).Should(gexec.Exit(1))
		Expect(string(session.Err.Contents())).To(ContainSubstring("--kubeconfig"))
	})

	It("gets ready, hands its lease back on SIGTERM and exits with 0", func(ctx context.Context) {
		health := freeAddress(ctx)
		session := start("--kubeconfig="+server.Kubeconfig(), "--agent=external",
			"--leader-elect", "--leader-elect-namespace=default",
			"--metrics-bind-address=0", "--health-probe-bind-address="+health)
		for _, path := range []string{"healthz", "readyz"} {
			Eventually(func() (int, error) { return get(ctx, "http://"+health+"/"+path) }).
				WithTimeout(time.Minute).Should(Equal(http.StatusOK))
		}
		lease := &coordinationv1.Lease{}
		holder := func() (string, error) {
			err := server.Client().Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, lease)
			if err != nil || lease.Spec.HolderIdentity == nil {
				return "", client.IgnoreNotFound(err)
			}
			return *lease.Spec.HolderIdentity, nil
		}
		Eventually(holder).WithTimeout(time.Minute).ShouldNot(BeEmpty())
		session.Terminate()
		Eventually(session).WithTimeout(time.Minute).Should(gexec.Exit(0))
		Expect(holder()).To(BeEmpty())
	})
})

// freeAddress returns an address of this machine that nobody listens on.
func freeAddress(ctx context.Context) string {
	GinkgoHelper()
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(listener.Close()).To(Succeed()) }()
	return listener.Addr().String()
}

// get returns the status of the answer.
func get(ctx context.Context, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}
