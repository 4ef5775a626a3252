package plugin

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

var _ = Describe("What people see", func() {
	It("is that there is nothing to do where there is no pool", func(ctx context.Context) {
		Expect(well(ctx, "status")).To(Equal("Nothing to do: there is no ServiceProxyConfig, so no node is touched.\n"))
		Expect(well(ctx, "why", "one")).To(ContainSubstring("no config selects it"))
	})

	It("is all pools on one page, by kubectl itself too", func(ctx context.Context) {
		pool(ctx)
		page := well(ctx, "status")
		Expect(page).To(HavePrefix("All is well: 1 pool with 3 nodes, 3 in sync.\n"))
		Expect(page).To(MatchRegexp(`default +iptables +3 +3 +3 +0 +0 +AllNodesReady`))
		Expect(page).NotTo(ContainSubstring("\x1b"), "colours are for terminals")
		Expect(well(ctx, "status", "-o", "wide")).To(MatchRegexp(`default .*AllNodesReady +10 +default-\w+ +default-\w+`))

		type report struct {
			Well  bool
			Pools []struct {
				Name            string
				Ready           bool
				Assigned        int
				CurrentRevision string
			}
			Nodes struct{ Total, Assigned, InSync, Problems, Unassigned int }
		}
		read := decode[report](well(ctx, "status", "-o", "json"))
		Expect(read.Well).To(BeTrue())
		Expect(read.Pools).To(HaveLen(1))
		Expect(read.Pools[0].CurrentRevision).To(Equal(config(ctx).Status.CurrentRevision))
		Expect(read.Nodes.Total).To(Equal(3))
		Expect(read.Nodes.InSync).To(Equal(3))
		Expect(well(ctx, "status", "-o", "yaml")).To(ContainSubstring("well: true\n"))

		cache, err := binaries.Open()
		Expect(err).NotTo(HaveOccurred())
		program, err := cache.Find(binaries.Kubectl)
		Expect(err).NotTo(HaveOccurred())
		folder, err := filepath.Abs(filepath.Join(root, "bin"))
		Expect(err).NotTo(HaveOccurred())
		cmd := command(ctx, program, "serviceproxy", "status")
		cmd.Env = append(cmd.Env, "PATH="+folder+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(out))
		Expect(string(out)).To(Equal(page))
	})

	It("is how a change goes on, line by line where nobody looks at a terminal", func(ctx context.Context) {
		pool(ctx)
		cmd := command(ctx, filepath.Join(root, "bin", "kubectl-serviceproxy"), "status", "--watch")
		session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { session.Kill().Wait() })
		Eventually(session.Out).Should(gbytes.Say("All is well: 1 pool with 3 nodes"))
		set(ctx, `{"sync": {"fullIntervalSeconds": 60}, "rollout": {"minReadySeconds": 1}}`)
		Eventually(session.Out).Should(gbytes.Say(`pool default: \w+, \d of 3 nodes updated`))
		Eventually(session.Out).Should(gbytes.Say(`pool default: AllNodesReady, 3 of 3 nodes updated, 3 in sync`))
		session.Interrupt()
		Eventually(session).Should(gexec.Exit(0))
		lines := bufio.NewScanner(strings.NewReader(string(session.Out.Contents())))
		for lines.Scan() {
			Expect(lines.Text()).To(MatchRegexp(`^\d{4}-\d\d-\d\dT[0-9:]+Z `))
		}
	})

	It("is which config has a node, and why", func(ctx context.Context) {
		pool(ctx)
		kubectl(ctx, "apply", "--filename=testdata/others.yaml")
		kubectl(ctx, "label", "node", "one", "example.com/role=edge")
		DeferCleanup(func(ctx context.Context) { kubectl(ctx, "label", "node", "one", "example.com/role-") })
		Eventually(asking(ctx, "why", "one")).Should(And(
			HavePrefix("0: Node one: InOrder: it runs revision edge-"),
			MatchRegexp(`edge +20 +example.com/role=edge +has the node: the highest priority, 20, of those that select it`),
			MatchRegexp(`default +10 +every node +selects the node, but edge has a higher priority`),
			MatchRegexp(`twin +10 +every node +selects the node, but edge has a higher priority`)))
		Expect(well(ctx, "why", "two")).To(And(
			HavePrefix("Node two: InOrder: it runs revision default-"),
			MatchRegexp(`default +10 +every node +has the node: default had it first, and keeps it`),
			MatchRegexp(`twin +10 +every node +selects the node with the same priority: default had it first, and keeps it`),
			MatchRegexp(`edge +20 +example.com/role=edge +does not select the node: its labels do not meet example.com/role=edge`)))
		// The loser of a tie is told, and status is not well.
		Eventually(asking(ctx, "status")).Should(And(HavePrefix("1: Not well: 1 error"), ContainSubstring("Conflicted on pool twin")))
	})

	It("is what was probably meant by a name that nobody has", func(ctx context.Context) {
		pool(ctx)
		Expect(ask(ctx, "why", "twoo")).To(Equal(answer{ErrOut: "error: there is no node \"twoo\"; did you mean \"two\"?\n", Status: 2}))
		for _, verb := range []string{"pause", "resume", "retry", "rollback"} {
			Expect(ask(ctx, verb, "defalt")).To(Equal(answer{
				ErrOut: "error: there is no pool \"defalt\"; did you mean \"default\"?\n", Status: 2}), verb)
		}
		Expect(ask(ctx, "status", "--wide")).To(HaveField("Status", 2))
		Expect(ask(ctx, "status", "-o", "table").ErrOut).To(ContainSubstring("is one of text, wide, json, yaml"))
	})

	It("is the names of what there is, on completion", func(ctx context.Context) {
		pool(ctx)
		Expect(well(ctx, "__complete", "why", "t")).To(HavePrefix("three\ntwo\n"))
		Expect(well(ctx, "__complete", "pause", "")).To(HavePrefix("default\n"))
		Expect(well(ctx, "__complete", "rollback", "default", "--to-revision", "")).To(HavePrefix(config(ctx).Status.CurrentRevision))
		Expect(well(ctx, "__complete", "status", "-o", "")).To(HavePrefix("text\nwide\njson\nyaml\n"))
		Expect(well(ctx, "__complete", "explain", "service", "kub")).To(HavePrefix("kubernetes\n"))
		Expect(well(ctx, "--version")).To(HavePrefix("kubectl serviceproxy version "))
	})

	It("is completed by kubectl itself, where it finds the program that it asks", func(ctx context.Context) {
		pool(ctx)
		folder := GinkgoT().TempDir()
		Expect(os.WriteFile(filepath.Join(folder, "kubectl_complete-serviceproxy"),
			[]byte("#!/bin/sh\nexec kubectl serviceproxy __complete \"$@\"\n"), 0o755)).To(Succeed())
		cache, err := binaries.Open()
		Expect(err).NotTo(HaveOccurred())
		program, err := cache.Find(binaries.Kubectl)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Symlink(program, filepath.Join(folder, "kubectl"))).To(Succeed())
		bin, err := filepath.Abs(filepath.Join(root, "bin"))
		Expect(err).NotTo(HaveOccurred())
		cmd := command(ctx, program, "__complete", "serviceproxy", "pause", "")
		cmd.Env = append(cmd.Env, "PATH="+folder+":"+bin+":"+os.Getenv("PATH"))
		out, err := cmd.Output()
		Expect(err).NotTo(HaveOccurred())
		Expect(string(out)).To(HavePrefix("default\n"))
	})

	It("is what the rights of the user allow", func(ctx context.Context) {
		pool(ctx)
		kubectl(ctx, "create", "clusterrolebinding", "jane", "--clusterrole=service-proxy-viewer", "--user=jane")
		DeferCleanup(func(ctx context.Context) { kubectl(ctx, "delete", "clusterrolebinding", "jane") })
		Expect(well(ctx, "status", "--as=jane")).To(ContainSubstring("3 in sync"), "the number of Nodes is not needed")
		Expect(ask(ctx, "why", "one", "--as=jane").ErrOut).To(ContainSubstring(`cannot list resource "nodes"`))
		Expect(ask(ctx, "pause", "default", "--as=jane").ErrOut).To(ContainSubstring(`cannot patch resource "serviceproxyconfigs"`))
		Expect(config(ctx).Spec.Rollout.State).To(BeEmpty())
	})
})
