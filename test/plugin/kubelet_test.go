package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

// kubelets are the scheduler and the kubelets of a DaemonSet of kube-proxy: where it has a Pod, the real kube-proxy runs,
// and the Pod is Ready when it has written rules for Service web: in nat, or in filter while it has no endpoints.
type kubelets struct {
	program string
	mu      sync.Mutex
	running map[types.UID]*cluster.Process
}

// startKubelets looks after the Pods of kube-proxy until the end of the spec.
func startKubelets() *kubelets {
	GinkgoHelper()
	cache, err := binaries.Open()
	Expect(err).NotTo(HaveOccurred())
	program, err := cache.Find(binaries.KubeProxy)
	Expect(err).NotTo(HaveOccurred(), "go run ./test/cluster/build -kube-proxy builds it")
	k := &kubelets{program: program, running: map[types.UID]*cluster.Process{}}
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() {
		defer GinkgoRecover()
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		for {
			if err := k.pass(ctx); err != nil && ctx.Err() == nil {
				GinkgoWriter.Printf("kubelets: %v\n", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
		}
	})
	DeferCleanup(func() {
		stop()
		working.Wait()
		for _, process := range k.running {
			process.Kill()
		}
	})
	return k
}

// count is how many kube-proxies run.
func (k *kubelets) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.running)
}

func (k *kubelets) pass(ctx context.Context) error {
	var pods corev1.PodList
	err := world.Client().List(ctx, &pods, client.InNamespace(metav1.NamespaceSystem), client.MatchingLabels{"k8s-app": "kube-proxy"})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for i := range pods.Items {
		errs = append(errs, k.lookAfter(ctx, &pods.Items[i]))
	}
	return errors.Join(errs...)
}

func (k *kubelets) lookAfter(ctx context.Context, pod *corev1.Pod) error {
	api, process := world.Client(), k.running[pod.UID]
	switch {
	case pod.Spec.NodeName == "":
		// The controller of DaemonSets says by affinity which node it means.
		terms := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
		binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: terms[0].MatchFields[0].Values[0]}}
		return api.SubResource("binding").Create(ctx, pod, binding)
	case pod.DeletionTimestamp != nil:
		if process != nil {
			if err := process.Stop(ctx); err != nil {
				return err
			}
			delete(k.running, pod.UID)
		}
		return client.IgnoreNotFound(api.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	case process == nil:
		return k.run(pod)
	case len(pod.Status.Conditions) < 2:
		rules, err := world.Node(pod.Spec.NodeName).Run(ctx, "iptables-nft-save")
		if err != nil || !strings.Contains(rules, "-A KUBE-SERVICES -d 10.96.0.80/32") {
			return err
		}
		before, now := pod.DeepCopy(), metav1.Now()
		pod.Status.Phase = corev1.PodRunning
		for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.ContainersReady, corev1.PodReady} {
			pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
		}
		pod.Status.Conditions = pod.Status.Conditions[len(before.Status.Conditions):]
		return api.Status().Patch(ctx, pod, client.MergeFrom(before))
	}
	return nil
}

func (k *kubelets) run(pod *corev1.Pod) error {
	process, err := world.Node(pod.Spec.NodeName).Start(cluster.ProcessSpec{
		Name: fmt.Sprintf("kube-proxy-%s", pod.UID),
		Path: k.program,
		Args: []string{
			"--kubeconfig=" + world.NodeKubeconfig(), "--hostname-override=" + pod.Spec.NodeName, "--proxy-mode=iptables",
			// These are the machine's, not the namespace's, and would fail.
			"--conntrack-max-per-core=0", "--conntrack-min=0", "--oom-score-adj=0",
		},
	})
	if err == nil {
		k.running[pod.UID] = process
	}
	return err
}
