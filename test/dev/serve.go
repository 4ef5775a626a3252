package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/demo/scene"
	"github.com/serviceproxy/service-proxy-operator/test/install"
)

// serveCommand is the subcommand that is the background process.
const serveCommand = "serve"

// ready is the line that ends what serve says to whoever started it.
const ready = "ready"

// serve is the background process: it holds the cluster until it gets SIGTERM. Progress goes to descriptor 3.
func serve(ctx context.Context, p place) error {
	release, err := p.claim()
	if err != nil {
		return err
	}
	defer release()
	progress := os.NewFile(3, "progress")
	defer func() { _ = progress.Close() }()
	say := func(format string, args ...any) { fmt.Fprintf(progress, format+"\n", args...) }

	if err := errors.Join(os.RemoveAll(p.logs()), os.MkdirAll(p.logs(), 0o755)); err != nil {
		return fmt.Errorf("making a folder for logs: %w", err)
	}
	options := cluster.Options{Nodes: scene.Nodes(), LogDir: p.logs()}
	return cluster.Run(ctx, options, func(ctx context.Context, c *cluster.Cluster) error {
		say("the cluster is up: nodes %s", strings.Join(scene.Nodes(), ", "))
		pods, err := furnish(ctx, c, p, say)
		if err != nil {
			return err
		}
		if err := link(c.Kubeconfig(), p.kubeconfig()); err != nil {
			return err
		}
		defer func() { _ = os.Remove(p.kubeconfig()) }()
		var group sync.WaitGroup
		defer group.Wait()
		listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", p.socket())
		if err != nil {
			return fmt.Errorf("listening for dev exec: %w", err)
		}
		house := newHouse(c, pods)
		group.Go(func() { house.open(ctx, listener) })
		group.Go(func() { house.tidy(ctx) })
		say(ready)
		_ = progress.Close()
		<-ctx.Done()
		return nil
	})
}

// furnish installs the operator and everything of the scene, and waits until it works.
func furnish(ctx context.Context, c *cluster.Cluster, p place, say func(string, ...any)) (map[string]*cluster.Pod, error) {
	if _, err := install.Start(ctx, c, install.Options{Root: p.root, Verbosity: 2}); err != nil {
		return nil, err
	}
	say("installed with kubectl apply -k config/default; an operator and %d agents run", len(scene.Nodes()))
	pods, err := scene.RunPods(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := scene.LabelPools(ctx, c); err != nil {
		return nil, err
	}
	if _, err := c.KubectlApply(ctx, scene.Services); err != nil {
		return nil, err
	}
	if _, err := c.Kubectl(ctx, "apply", "-k", filepath.Join(p.root, "config", "samples")); err != nil {
		return nil, err
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "spc", "--all"); err != nil {
		return nil, err
	}
	say("the configs of config/samples are Ready")
	return pods, nil
}

// link makes a symbolic link, in place of one that an earlier cluster left.
func link(target, name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing an old link: %w", err)
	}
	if err := os.Symlink(target, name); err != nil {
		return fmt.Errorf("linking the kubeconfig: %w", err)
	}
	return nil
}

// house is where the hosts of the cluster are found by name.
type house struct {
	cluster *cluster.Cluster
	mu      sync.Mutex
	pods    map[string]*cluster.Pod
}

func newHouse(c *cluster.Cluster, pods map[string]*cluster.Pod) *house {
	return &house{cluster: c, pods: pods}
}

func (h *house) hosts() map[string]*cluster.Host {
	hosts := map[string]*cluster.Host{"outside": h.cluster.Outside(), "control-plane": h.cluster.ControlPlane()}
	for _, node := range h.cluster.Nodes() {
		hosts[node.Name] = node.Host
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, pod := range h.pods {
		hosts[name] = pod.Host
	}
	return hosts
}

// tidy is a small part of a kubelet: a pod that was asked to end goes a moment later.
func (h *house) tidy(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var list corev1.PodList
		if err := h.cluster.Client().List(ctx, &list, client.InNamespace("default")); err != nil {
			continue // the next look will tell
		}
		alive := map[string]bool{}
		for _, pod := range list.Items {
			alive[pod.Name] = pod.DeletionTimestamp == nil
		}
		for name, pod := range h.snapshot() {
			if !alive[name] && pod.Delete(ctx) == nil {
				h.mu.Lock()
				delete(h.pods, name)
				h.mu.Unlock()
			}
		}
	}
}

func (h *house) snapshot() map[string]*cluster.Pod {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.pods)
}
