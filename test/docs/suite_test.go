// Package docs runs the commands of README and of docs, against a real cluster with operator and agents, so that no page
// promises what does not work.
package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/demo/scene"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

const root = "../.."

// home is where README says that the source is. Git is told to take it from here.
const home = "https://github.com/serviceproxy/service-proxy-operator"

func TestDocs(t *testing.T) {
	specs.Run(t, "test/docs")
}

var (
	world *cluster.Cluster
	// origin is the repository that stands for home, and clone a fresh clone of it, in which commands run.
	origin, clone string
	// service is the address of Service web.
	service string
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	EnforceDefaultTimeoutsWhenUsingContexts()
	makeOrigin(ctx)
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"a", "b"}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
})

// makeOrigin makes a repository of what is in this folder, committed or not, with the tag that pages speak of, and the
// clone.
func makeOrigin(ctx context.Context) {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	origin, clone = filepath.Join(dir, "origin"), filepath.Join(dir, "clone")
	for _, command := range []string{
		`mkdir "` + origin + `" && tar -C "` + source() + `" --exclude=./.git --exclude=./.cache --exclude=./bin -cf - . | tar -C "` + origin + `" -xf -`,
		`cd "` + origin + `" && git init -q -b main && git add -A && git -c user.name=test -c user.email=test@example.com commit -qm all && git tag v0.1.0`,
		`git clone -q ` + home + ` "` + clone + `"`,
		useWhatIsBuilt(clone),
	} {
		_, err := shell(ctx, dir, command)
		Expect(err).NotTo(HaveOccurred())
	}
}

// useWhatIsBuilt has a clone use the programs of this folder: building a control plane again takes minutes.
func useWhatIsBuilt(clone string) string {
	return fmt.Sprintf(`mkdir -p "%[2]s/.cache" && for built in "%[1]s"/.cache/*; do case $built in */dev|*/deploy|*/bench) ;; *) ln -s "$built" "%[2]s/.cache/" ;; esac; done`,
		source(), clone)
}

func source() string {
	path, err := filepath.Abs(root)
	Expect(err).NotTo(HaveOccurred())
	return path
}

// start starts operator and agents, as the kubelets of a real cluster would, and what pages look at.
func start(ctx context.Context) {
	GinkgoHelper()
	_, err := install.Start(ctx, world, install.Options{Root: root})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(endPods())
	_, err = scene.RunPods(ctx, world)
	Expect(err).NotTo(HaveOccurred())
	_, err = world.KubectlApply(ctx, scene.Services)
	Expect(err).NotTo(HaveOccurred())
	address, err := scene.AddressOf(ctx, world, "web", "http")
	Expect(err).NotTo(HaveOccurred())
	service = strings.TrimSuffix(address.IPv4, ":80")
	// What clusters with Argo CD and with the Prometheus operator have.
	_, err = world.KubectlApply(ctx, elsewhere)
	Expect(err).NotTo(HaveOccurred())
	_, err = world.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=1m", "crd",
		"servicemonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com")
	Expect(err).NotTo(HaveOccurred())
}

// endPods does the part of a kubelet that a namespace waits for when it is deleted: Pods of agents that were asked to end go.
// It returns what ends that.
func endPods() func() {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			var pods corev1.PodList
			if err := world.Client().List(ctx, &pods, client.InNamespace(install.Namespace)); err != nil {
				continue // the next look will tell
			}
			for i := range pods.Items {
				if pods.Items[i].DeletionTimestamp != nil {
					_ = world.Client().Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0)) // again at the next look
				}
			}
		}
	})
	return func() { cancel(); group.Wait() }
}

// placeholders are the words in capitals of pages, as this cluster has them.
func placeholders() *strings.Replacer {
	return strings.NewReplacer("NAMESPACE/SERVICE", "default/web", "SERVICE", "web", "serviceproxyconfig NAME", "serviceproxyconfig default",
		"/NAME", "/default", "spc NAME", "spc default", "NODE", "a", "ADDRESS", service, "sha256:...", "sha256:"+strings.Repeat("0", 64))
}

// run runs a command in the clone, or on a node where it is about the kernel.
func run(ctx context.Context, command string) error {
	By(command)
	command = placeholders().Replace(command)
	switch words(command)[0] {
	case "curl", "iptables-save", "nft", "conntrack":
		_, err := world.Node("a").Run(ctx, "bash", "-euo", "pipefail", "-c", command)
		return err
	}
	_, err := shell(ctx, clone, command)
	return err
}

// shell runs a command as somebody would in a folder, with the programs that were built here. The error has what it wrote.
func shell(ctx context.Context, dir, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"PATH="+filepath.Join(source(), "bin")+":"+filepath.Join(source(), ".cache/bin")+":"+os.Getenv("PATH"),
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=url."+origin+".insteadOf", "GIT_CONFIG_VALUE_0="+home,
		"GIT_CONFIG_KEY_1=safe.directory", "GIT_CONFIG_VALUE_1=*")
	if world != nil {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+world.Kubeconfig())
	}
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return string(out), nil
}

// elsewhere are kinds and a namespace of others.
const elsewhere = `
apiVersion: v1
kind: Namespace
metadata: {name: argocd}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: ServiceMonitor, plural: servicemonitors}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prometheusrules.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: PrometheusRule, plural: prometheusrules}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`
