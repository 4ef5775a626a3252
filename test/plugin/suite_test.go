// Package plugin tests kubectl serviceproxy as people run it: the program that is shipped, on a real cluster with the real
// operator and agents.
package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestPlugin(t *testing.T) {
	specs.Run(t, "test/plugin")
}

// root is the folder of the repository.
const root = "../.."

var (
	world *cluster.Cluster
	setup *install.Installation
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	world, err = cluster.Start(ctx, cluster.Options{
		Nodes: []string{"one", "two", "three"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Controllers: []string{"daemonset-controller"},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
	setup, err = install.Start(ctx, world, install.Options{Root: root, Verbosity: 2})
	Expect(err).NotTo(HaveOccurred())
	for _, node := range world.Nodes() {
		// An administrator's firewall, which happens to use a bit of the mark that nothing else uses yet.
		_, err := node.Run(ctx, "iptables-nft", "-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "--mark", firewallMark+"/"+firewallMark, "-j", "DROP")
		Expect(err).NotTo(HaveOccurred())
	}
})

// Bit 20 of the mark is the firewall's, which drops what has it.
const (
	firewallBit  = 20
	firewallMark = "0x100000"
)

// What everybody said, if a spec failed.
var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	processes := []*cluster.Process{setup.Operator()}
	for _, node := range world.Nodes() {
		processes = append(processes, setup.Agent(node.Name))
	}
	for _, p := range processes {
		GinkgoWriter.Printf("--- %s\n%s\n", p.LogFile(), p.Tail(40))
	}
})

// answer is what a program said, and its exit status.
type answer struct {
	Out, ErrOut string
	Status      int
}

// ask runs kubectl serviceproxy.
func ask(ctx context.Context, args ...string) answer {
	GinkgoHelper()
	cmd := command(ctx, filepath.Join(root, "bin", "kubectl-serviceproxy"), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		Expect(err).NotTo(HaveOccurred(), "make build builds it")
	}
	a := answer{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
	GinkgoWriter.Printf("$ kubectl serviceproxy %v -> %d\n%s%s\n", args, a.Status, a.Out, a.ErrOut)
	return a
}

// command is a program that reaches the cluster, and leaves nothing in the home of whoever runs it.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+world.Kubeconfig(), "KUBECACHEDIR="+GinkgoT().TempDir())
	return cmd
}

// well asks, expects exit status 0, and returns what was said.
func well(ctx context.Context, args ...string) string {
	GinkgoHelper()
	a := ask(ctx, args...)
	Expect(a.Status).To(BeZero(), a.ErrOut)
	return a.Out
}

// asking asks again and again, for Eventually: the exit status comes before what was said.
func asking(ctx context.Context, args ...string) func() string {
	return func() string {
		a := ask(ctx, args...)
		return fmt.Sprintf("%d: %s%s", a.Status, a.Out, a.ErrOut)
	}
}

func decode[T any](text string) T {
	GinkgoHelper()
	var value T
	Expect(json.Unmarshal([]byte(text), &value)).To(Succeed())
	return value
}

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := world.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// pool applies pool default of all nodes, one canary first, and waits until they run it. It is gone after the spec, and
// the nodes are clean.
func pool(ctx context.Context, args ...string) {
	GinkgoHelper()
	kubectl(ctx, append([]string{"apply", "--server-side", "--filename=testdata/default.yaml"}, args...)...)
	DeferCleanup(release)
	kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=120s", "spc/default")
}

// release takes all nodes away from all pools, waits until every node has given back what it had, and deletes the pools. A
// node waits half a minute for another config if its own is gone, and not if that just selects no node any more.
func release(ctx context.Context) {
	GinkgoHelper()
	for name := range strings.FieldsSeq(kubectl(ctx, "get", "spc", "--output=jsonpath={.items[*].metadata.name}")) {
		kubectl(ctx, "patch", "spc", name, "--type=merge", `--patch={"spec": {"nodeSelector": {"matchLabels": {"example.com/nobody": "true"}}}}`)
	}
	kubectl(ctx, "wait", `--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Released`, "--timeout=120s", "spn", "--all")
	kubectl(ctx, "delete", "spc", "--all")
}

// set changes the spec of pool default.
func set(ctx context.Context, spec string) {
	GinkgoHelper()
	kubectl(ctx, "patch", "spc", "default", "--type=merge", `--patch={"spec": `+spec+`}`)
}

func config(ctx context.Context) *v1alpha1.ServiceProxyConfig {
	GinkgoHelper()
	object := &v1alpha1.ServiceProxyConfig{}
	Expect(world.Client().Get(ctx, client.ObjectKey{Name: "default"}, object)).To(Succeed())
	return object
}
