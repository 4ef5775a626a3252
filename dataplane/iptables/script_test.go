package iptables_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

var _ = Describe("Scripts make a kernel hold what an engine does, which then has nothing to write:", func() {
	for name, lines := range kinds() {
		onBothBackends(name, func(ctx context.Context, k *kernel) {
			w := newWorld(scenario.Defaults())
			for _, line := range lines {
				w.set(line)
			}
			healthPorts := []uint16{30100, 30200}
			var ports []*forwarding.ServicePort
			for p := range w.table.All {
				ports = append(ports, p)
			}
			for _, script := range iptables.Scripts(w.settings, ports, healthPorts) {
				k.feed(script)
			}
			e := iptables.New(probe(ctx), w.settings)
			e.OpenHealthPorts(healthPorts)
			Expect(e.Apply(ctx, w.all())).To(Equal(xtables.Written{}))
		})
	}
})

// feed runs a script, by the programs of the backend.
func (k *kernel) feed(script xtables.Script) {
	GinkgoHelper()
	words := strings.Fields(script.Program)
	if base, is := strings.CutSuffix(words[0], "-restore"); is {
		words[0] = fmt.Sprintf("%s-%s-restore", base, k.backend)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(script.Lines, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s: %s", script.Program, out)
}
