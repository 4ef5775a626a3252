package foreignproxy

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// AgentServer is the header Server of everything that an agent answers over HTTP. An agent serves the addresses and paths
// of kube-proxy, and this is what tells the two apart.
const AgentServer = "service-proxy-agent"

// askTime is how long an answer over the loopback interface may take.
const askTime = 500 * time.Millisecond

// running finds out whether kube-proxy runs in this network namespace.
func running(ctx context.Context, proc string) (Running, string) {
	for _, url := range []string{"http://127.0.0.1:10249/proxyMode", "http://127.0.0.1:10256/healthz"} {
		if answers(ctx, url) {
			return Yes, "it answers at " + url
		}
	}
	const silent = "nobody answers as kube-proxy at 127.0.0.1:10249 and 127.0.0.1:10256"
	pid, all := process(proc)
	switch {
	case pid != "":
		return Yes, "it is process " + pid
	case all:
		return No, silent + ", and there is no process of that name"
	}
	return Unknown, silent + ", and the processes of the node cannot be seen from here"
}

// answers says whether kube-proxy answers at one of its usual addresses. An agent of ours has the same addresses and answers,
// and says who it is.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	// No proxy for 127.0.0.1, whatever the environment says, and no connection that stays open.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	const enough = 1 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, enough))
	if err != nil || response.Header.Get("Server") == AgentServer {
		return false
	}
	text := strings.TrimSpace(string(body))
	return slices.Contains([]string{"iptables", "ipvs", "nftables"}, text) || strings.Contains(text, `"lastUpdated"`)
}

// process looks for a process named kube-proxy in this network namespace, and says whether all processes of the node were
// seen. Where the kernel's own threads can be seen, everything can (the second process is always kthreadd).
func process(proc string) (pid string, all bool) {
	all = comm(proc, "2") == "kthreadd"
	own, err := os.Readlink("/proc/thread-self/ns/net")
	entries, listErr := os.ReadDir(proc)
	if err != nil || listErr != nil {
		return "", false
	}
	for _, e := range entries {
		if comm(proc, e.Name()) != "kube-proxy" {
			continue
		}
		switch namespace, err := os.Readlink(filepath.Join(proc, e.Name(), "ns", "net")); {
		case err != nil:
			all = false // it may be of this node, or of a node in a container on this machine
		case namespace == own:
			return e.Name(), true
		}
	}
	return "", all
}

// comm is the name of a process, empty for what is none.
func comm(proc, pid string) string {
	if strings.Trim(pid, "0123456789") != "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(proc, pid, "comm"))
	if err != nil {
		return "" // it has ended
	}
	return strings.TrimSpace(string(text))
}
