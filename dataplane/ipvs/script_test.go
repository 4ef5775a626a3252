package ipvs_test

import (
	"context"
	"os/exec"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
)

var _ = Describe("Scripts", func() {
	It("make a kernel hold what an engine does, which then has nothing to write", func(ctx context.Context) {
		n := newNode(ctx)
		n.settings.Scheduler = "mh"
		for _, service := range []string{
			"plain 172.30.0.41 80 dns:53/udp s:9/sctp -> 10.180.0.1 10.180.1.1",
			"exposed 172.30.0.42 80^3001 vip=1.2.3.4 xip=1.2.3.5 eTP=Local ranges=203.0.113.0/24,203.0.114.7/32 -> 10.180.0.1/local 10.180.1.1",
			"sticky 172.30.0.43 80^3002 affinity=100 -> 10.180.0.1",
			"closed 172.30.0.44 80 vip=1.2.3.6 ->",
			"remote 172.30.0.45 80 vip=1.2.3.7 eTP=Local -> 10.180.1.1",
			"foreign 172.30.0.46 80 foreign ->",
		} {
			n.update(service)
		}
		var ports []*forwarding.ServicePort
		for p := range n.table.All {
			ports = append(ports, p)
		}
		own, err := addresses.List()
		Expect(err).NotTo(HaveOccurred())
		scripts, problems := ipvs.Scripts(n.settings, own, ports, []uint16{30100})
		Expect(problems).To(BeEmpty())
		for _, script := range scripts {
			words := strings.Fields(strings.Replace(script.Program, "tables-", "tables-legacy-", 1))
			cmd := exec.Command(words[0], words[1:]...)
			cmd.Stdin = strings.NewReader(strings.Join(script.Lines, "\n") + "\n")
			out, err := cmd.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s: %s", script.Program, out)
		}
		before := held(ctx)
		e := n.start()
		e.OpenHealthPorts([]uint16{30100})
		Expect(apply(ctx, e, n.everything())).To(Equal(ipvs.Written{}))
		Expect(held(ctx)).To(Equal(before))
	})
})
