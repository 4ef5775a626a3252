package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// way is a way to run kube-proxy.
type way struct {
	mode string
	// backend is the backend of iptables that kube-proxy finds.
	backend string
}

func (w way) String() string { return w.mode + " with iptables-" + w.backend }

// start starts kube-proxy on a node and waits until it has synced.
func (w way) start(ctx context.Context, node *cluster.Node) *cluster.Process {
	GinkgoHelper()
	cache, err := binaries.Open()
	Expect(err).NotTo(HaveOccurred())
	program, err := cache.Find(binaries.KubeProxy)
	Expect(err).NotTo(HaveOccurred(), "go run ./test/cluster/build -kube-proxy builds it")
	process, err := node.Start(cluster.ProcessSpec{
		Path: program,
		Args: []string{
			"--kubeconfig=" + world.NodeKubeconfig(), "--hostname-override=" + node.Name, "--proxy-mode=" + w.mode, "--v=2",
			// These are the machine's, not the namespace's, and would fail.
			"--conntrack-max-per-core=0", "--conntrack-min=0", "--oom-score-adj=0",
		},
		Env: []string{"PATH=" + w.programs()},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { process.Kill() })
	Eventually(func() bool { return w.wrote(ctx, node) }).Should(BeTrue(), "kube-proxy has rules for Service web")
	return process
}

// programs is a path on which the programs of iptables are those of a backend.
func (w way) programs() string {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			path, err := exec.LookPath(family + "-" + w.backend + suffix)
			Expect(err).NotTo(HaveOccurred())
			Expect(os.Symlink(path, filepath.Join(dir, family+suffix))).To(Succeed())
		}
	}
	return dir + ":" + os.Getenv("PATH")
}

// rules is what kube-proxy has in the kernel of a node.
func (w way) rules(ctx context.Context, node *cluster.Node) string {
	GinkgoHelper()
	command := []string{"iptables-" + w.backend + "-save"}
	if w.mode == "nftables" {
		command = []string{"nft", "list", "tables"}
		if w.wrote(ctx, node) {
			command = []string{"nft", "list", "table", "ip", "kube-proxy"}
		}
	}
	out, err := node.Run(ctx, command[0], command[1:]...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// wrote says whether kube-proxy has rules for Service web.
func (w way) wrote(ctx context.Context, node *cluster.Node) bool {
	if w.mode == "nftables" {
		out, err := node.Run(ctx, "nft", "list", "map", "ip", "kube-proxy", "service-ips")
		return err == nil && strings.Contains(out, "10.96.0.80 . tcp . 80")
	}
	out, err := node.Run(ctx, "iptables-"+w.backend+"-save", "-t", "nat")
	return err == nil && strings.Contains(out, "-A KUBE-SERVICES -d 10.96.0.80/32")
}

// proxyMode asks the proxy of a node for its mode.
func proxyMode(ctx context.Context, node *cluster.Node) func() (string, error) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return node.Dial(ctx, network, address)
		},
	}}
	return func() (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10249/proxyMode", nil)
		if err != nil {
			return "", err
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		mode, err := io.ReadAll(response.Body)
		return string(mode), errors.Join(err, response.Body.Close())
	}
}
