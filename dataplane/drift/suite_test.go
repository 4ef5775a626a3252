package drift_test

import (
	"context"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netns"

	"github.com/serviceproxy/service-proxy-operator/dataplane/drift"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestDrift(t *testing.T) {
	specs.Run(t, "dataplane/drift")
}

// watch puts the rest of a spec into a network namespace of its own, on a thread that ends with it, and listens there.
func watch(ctx context.Context, commands ...string) *drift.Watcher {
	GinkgoHelper()
	runtime.LockOSThread()
	there, err := netns.New()
	Expect(err).NotTo(HaveOccurred(), "making a network namespace needs root")
	Expect(there.Close()).To(Succeed()) // the thread holds it
	for _, c := range commands {
		run(c)
	}
	ctx, cancel := context.WithCancel(ctx)
	DeferCleanup(cancel)
	w, err := drift.Watch(ctx, "SPROXY")
	Expect(err).NotTo(HaveOccurred())
	return w
}

func run(command string) {
	GinkgoHelper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s: %s", command, out)
}

// runInput runs a script that is too long for an argument.
func runInput(script string) {
	GinkgoHelper()
	shell := exec.Command("sh")
	shell.Stdin = strings.NewReader(script)
	out, err := shell.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
}
