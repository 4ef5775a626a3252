package cluster_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gleak"
	"github.com/vishvananda/netlink"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

var _ = Describe("Nothing is left", Serial, func() {
	It("after Stop, which may be called again", func(ctx SpecContext) {
		before := traces()
		goroutines := gleak.Goroutines()
		c, err := cluster.Start(ctx, cluster.Options{Nodes: []string{"a", "b"}})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() error { return c.Stop() })
		_, err = c.RunPods(ctx, web("one", "a"), web("two", "b"))
		Expect(err).NotTo(HaveOccurred())
		_, err = c.Node("a").Run(ctx, "iptables", "-A", "INPUT", "-j", "ACCEPT")
		Expect(err).NotTo(HaveOccurred())
		_, err = c.Node("a").Start(cluster.ProcessSpec{Path: "sleep", Args: []string{"600"}})
		Expect(err).NotTo(HaveOccurred())
		namespaces := namespacesOf(os.Getpid())
		Expect(len(namespaces)).To(BeNumerically(">=", 7), "fabric, outside, control plane, two nodes, two pods")
		folder := filepath.Dir(c.LogDir())
		Expect(folder).To(BeADirectory())

		Expect(c.Stop()).To(Succeed())
		Expect(c.Stop()).To(Succeed())

		Expect(folder).NotTo(BeAnExistingFile())
		Expect(traces()).To(Equal(before))
		Eventually(remaining).WithArguments(namespaces).Should(BeEmpty())
		Eventually(gleak.Goroutines).ShouldNot(gleak.HaveLeaked(goroutines))
		_, err = c.AddNode(ctx, "late")
		Expect(err).To(HaveOccurred())
		_, err = c.Kubectl(ctx, "get", "nodes")
		Expect(err).To(MatchError(ContainSubstring("stopped")))
		Expect(traces()).To(Equal(before))
	}, SpecTimeout(startTimeout))

	It("after a start that failed half way", func(ctx SpecContext) {
		before := traces()
		soon, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err := cluster.Start(soon, cluster.Options{Nodes: []string{"a"}})
		Expect(err).To(MatchError(context.DeadlineExceeded))
		Expect(traces()).To(Equal(before))

		_, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"twice", "twice"}})
		Expect(err).To(MatchError(ContainSubstring("the name is taken")))
		Expect(traces()).To(Equal(before))
	}, SpecTimeout(startTimeout))

	It("after a panic in a program", func(ctx SpecContext) {
		before := traces()
		Expect(func() {
			_ = cluster.Run(ctx, cluster.Options{}, func(context.Context, *cluster.Cluster) error { panic("on purpose") })
		}).To(PanicWith("on purpose"))
		Expect(traces()).To(Equal(before))
	}, SpecTimeout(startTimeout))

	It("after SIGINT, which a program hears of", func(ctx SpecContext) {
		holder := startHolder()
		Expect(holder.cmd.Process.Signal(os.Interrupt)).To(Succeed())
		Expect(holder.cmd.Wait()).To(Succeed())
		holder.expectGone()
		Expect(holder.folder).NotTo(BeAnExistingFile())
	}, SpecTimeout(startTimeout))

	It("after SIGKILL, but a folder that the next start removes", func(ctx SpecContext) {
		holder := startHolder()
		Expect(holder.cmd.Process.Kill()).To(Succeed())
		Expect(holder.cmd.Wait()).To(MatchError(ContainSubstring("killed")))
		holder.expectGone()
		// The folder is left, unless another test has started a cluster since.

		soon, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		_, err := cluster.Start(soon, cluster.Options{})
		Expect(err).To(HaveOccurred())
		Expect(holder.folder).NotTo(BeAnExistingFile())
	}, SpecTimeout(startTimeout))
})

// holder is another process that holds a cluster.
type holder struct {
	cmd        *exec.Cmd
	folder     string
	children   []string
	namespaces []string
}

// startHolder starts one and returns when its cluster is ready.
func startHolder() *holder {
	GinkgoHelper()
	self, err := os.Executable()
	Expect(err).NotTo(HaveOccurred())
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+holderRole)
	cmd.Stderr = GinkgoWriter
	stdout, err := cmd.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	Expect(cmd.Start()).To(Succeed())
	DeferCleanup(func() {
		if err := cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
			_ = cmd.Wait()
		}
	})
	logs, err := bufio.NewReader(stdout).ReadString('\n')
	Expect(err).NotTo(HaveOccurred())
	h := &holder{
		cmd:        cmd,
		folder:     filepath.Dir(strings.TrimSpace(logs)),
		children:   childrenOf(cmd.Process.Pid),
		namespaces: namespacesOf(cmd.Process.Pid),
	}
	Expect(h.children).To(HaveLen(3), "etcd, kube-apiserver, kube-controller-manager")
	Expect(len(h.namespaces)).To(BeNumerically(">=", 5), "fabric, outside, control plane, node, pod")
	return h
}

func (h *holder) expectGone() {
	GinkgoHelper()
	for _, child := range h.children {
		Eventually("/proc/" + child).ShouldNot(BeAnExistingFile())
	}
	Eventually(remaining).WithArguments(h.namespaces).Should(BeEmpty())
}

// traces lists what a cluster could leave on a machine, apart from namespaces and its own folder.
func traces() map[string][]string {
	GinkgoHelper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	Expect(err).NotTo(HaveOccurred())
	links, err := netlink.LinkList()
	Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, link := range links {
		names = append(names, link.Attrs().Name)
	}
	named, err := filepath.Glob("/run/netns/*")
	Expect(err).NotTo(HaveOccurred())
	return map[string][]string{
		"children": childrenOf(os.Getpid()), "links": names, "mounts": strings.Split(string(mounts), "\n"), "named": named,
		"open namespaces": descriptors(os.Getpid()),
	}
}

// childrenOf lists the child processes of all threads of a process.
func childrenOf(pid int) []string {
	GinkgoHelper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	Expect(err).NotTo(HaveOccurred())
	var children []string
	for _, thread := range threads {
		content, err := os.ReadFile(thread)
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			Expect(err).NotTo(HaveOccurred())
		}
		children = append(children, strings.Fields(string(content))...)
	}
	slices.Sort(children)
	return children
}

// descriptors lists the network namespaces, other than this one, that a process holds by a descriptor, as the paths of
// those.
func descriptors(pid int) []string {
	GinkgoHelper()
	own, err := os.Readlink("/proc/self/ns/net")
	Expect(err).NotTo(HaveOccurred())
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	Expect(err).NotTo(HaveOccurred())
	return slices.DeleteFunc(paths, func(path string) bool {
		target, err := os.Readlink(path)
		return err != nil || target == own || !strings.HasPrefix(target, "net:[")
	})
}

// namespacesOf gives every network namespace that a process holds a number in this one, and returns the numbers. The
// kernel forgets a number exactly when the namespace is gone, whatever kept it alive (rtnetlink(7), RTM_NEWNSID).
func namespacesOf(pid int) []string {
	GinkgoHelper()
	var ids []string
	for _, path := range descriptors(pid) {
		file, err := os.Open(path)
		Expect(err).NotTo(HaveOccurred())
		id, err := netlink.GetNetNsIdByFd(int(file.Fd()))
		if err != nil || id < 0 {
			Expect(netlink.SetNetNsIdByFd(int(file.Fd()), -1)).To(Succeed())
			id, err = netlink.GetNetNsIdByFd(int(file.Fd()))
		}
		Expect(err).NotTo(HaveOccurred())
		Expect(file.Close()).To(Succeed())
		ids = append(ids, fmt.Sprint(id))
	}
	return ids
}

// remaining returns those of the numbers that still stand for a namespace.
func remaining(numbers []string) []string {
	GinkgoHelper()
	out, err := exec.Command("ip", "netns", "list-id").Output()
	Expect(err).NotTo(HaveOccurred())
	var left []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) >= 2 && slices.Contains(numbers, fields[1]) {
			left = append(left, fields[1])
		}
	}
	return left
}
