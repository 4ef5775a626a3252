package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// contestant is a proxy and a way to run it.
type contestant struct {
	name string
	// ours says whose it is.
	ours bool
	// backend is the iptables that it uses; empty when it uses none.
	backend string
	// start says which program to start on a node, given a kubeconfig and the name of the node.
	start func(kubeconfig, node string) cluster.ProcessSpec
}

// The names of contestants.
const (
	agentNFT    = "agent-nft"
	agentLegacy = "agent-legacy"
	proxyNFT    = "kube-proxy-iptables-nft"
	proxyLegacy = "kube-proxy-iptables-legacy"
	proxyTables = "kube-proxy-nftables"
)

// standalone is what the agent runs with: the defaults, and the same network of pods as kube-proxy.
const standalone = `apiVersion: serviceproxy.io/v1alpha1
kind: ServiceProxyConfig
metadata: {name: bench}
spec:
  mode: iptables
  masquerade: {localTraffic: {detect: ClusterCIDR, clusterCIDRs: [10.244.0.0/16]}}
`

// contestants lists who takes part. Files are put into a folder.
func contestants(o Options, folder string) ([]*contestant, error) {
	cache, err := binaries.Open()
	if err != nil {
		return nil, err
	}
	kubeProxy, err := cache.Find(binaries.KubeProxy)
	if err != nil {
		return nil, fmt.Errorf("looking for kube-proxy, which make bench builds: %w", err)
	}
	agent, err := filepath.Abs(filepath.Join(o.Root, "bin", "agent"))
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(config, []byte(standalone), 0o644); err != nil {
		return nil, err
	}
	var all []*contestant
	for _, backend := range []string{"nft", "legacy"} {
		all = append(all, &contestant{name: "agent-" + backend, ours: true, backend: backend,
			start: func(kubeconfig, node string) cluster.ProcessSpec {
				return cluster.ProcessSpec{Path: agent, Args: []string{"--kubeconfig=" + kubeconfig, "--node-name=" + node,
					"--config=" + config, "--state-dir=" + filepath.Join(folder, node)}}
			}})
	}
	for _, backend := range []string{"nft", "legacy"} {
		path, err := programs(filepath.Join(folder, backend), backend)
		if err != nil {
			return nil, err
		}
		all = append(all, &contestant{name: "kube-proxy-iptables-" + backend, backend: backend, start: startKubeProxy(kubeProxy, "iptables", path)})
	}
	all = append(all, &contestant{name: proxyTables, start: startKubeProxy(kubeProxy, "nftables", os.Getenv("PATH"))})
	for _, name := range o.Only {
		if !slices.ContainsFunc(all, func(c *contestant) bool { return c.name == name }) {
			return nil, fmt.Errorf("-only has %q: it has to be one of %s", name, names(all))
		}
	}
	return slices.DeleteFunc(all, func(c *contestant) bool { return len(o.Only) > 0 && !slices.Contains(o.Only, c.name) }), nil
}

func names(all []*contestant) string {
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

func startKubeProxy(program, mode, path string) func(kubeconfig, node string) cluster.ProcessSpec {
	return func(kubeconfig, node string) cluster.ProcessSpec {
		return cluster.ProcessSpec{Path: program,
			Args: []string{"--kubeconfig=" + kubeconfig, "--hostname-override=" + node, "--proxy-mode=" + mode, "--cluster-cidr=10.244.0.0/16",
				// These are the machine's, not the namespace's, and would fail.
				"--conntrack-max-per-core=0", "--conntrack-min=0", "--oom-score-adj=0"},
			Env: []string{"PATH=" + path}}
	}
}

// programs makes a folder in which the programs of one backend have the names without a backend, and returns a $PATH that
// begins with it.
func programs(folder, backend string) (string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			target, err := exec.LookPath(family + "-" + backend + suffix)
			if err != nil {
				return "", fmt.Errorf("looking for iptables: %w; install the package iptables", err)
			}
			if err := os.Symlink(target, filepath.Join(folder, family+suffix)); err != nil {
				return "", err
			}
		}
	}
	return folder + string(os.PathListSeparator) + os.Getenv("PATH"), nil
}
