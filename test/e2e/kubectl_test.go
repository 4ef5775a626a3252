package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := world.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return strings.TrimSpace(out)
}

func apply(ctx context.Context, manifests string) {
	GinkgoHelper()
	_, err := world.KubectlApply(ctx, manifests)
	Expect(err).NotTo(HaveOccurred())
}

// applyForNow applies manifests until the end of the spec.
func applyForNow(ctx context.Context, manifests string) {
	GinkgoHelper()
	file := filepath.Join(GinkgoT().TempDir(), "manifests.yaml")
	Expect(os.WriteFile(file, []byte(manifests), 0o600)).To(Succeed())
	kubectl(ctx, "apply", "--filename="+file)
	DeferCleanup(func(ctx context.Context) {
		kubectl(ctx, "delete", "--ignore-not-found", "--wait=false", "--filename="+file)
	})
}

func get[T client.Object](ctx context.Context, name string, object T) T {
	GinkgoHelper()
	key := client.ObjectKey{Name: name}
	if namespaced, err := world.Client().IsObjectNamespaced(object); err == nil && namespaced {
		key.Namespace = metav1.NamespaceDefault
	}
	Expect(world.Client().Get(ctx, key, object)).To(Succeed())
	return object
}

// address is where a Service listens in a family.
func address(ctx context.Context, service string, port int, f family) string {
	GinkgoHelper()
	for _, ip := range get(ctx, service, &corev1.Service{}).Spec.ClusterIPs {
		if netip.MustParseAddr(ip).Is4() == (f == ipv4) {
			return net.JoinHostPort(ip, fmt.Sprint(port))
		}
	}
	Fail(fmt.Sprintf("Service %s has no %s address", service, f))
	return ""
}

func config(ctx context.Context, name string) *v1alpha1.ServiceProxyConfig {
	GinkgoHelper()
	return get(ctx, name, &v1alpha1.ServiceProxyConfig{})
}

func proxyNode(ctx context.Context, name string) *v1alpha1.ServiceProxyNode {
	GinkgoHelper()
	return get(ctx, name, &v1alpha1.ServiceProxyNode{})
}

// condition writes a condition as STATUS/REASON, for a generation that was observed.
func condition(conditions []metav1.Condition, kind string, generation int64) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.ObservedGeneration != generation {
		return "not observed"
	}
	return string(c.Status) + "/" + c.Reason
}

// configReady is condition Ready of a config.
func configReady(ctx context.Context, name string) func() string {
	return func() string {
		c := config(ctx, name)
		return condition(c.Status.Conditions, v1alpha1.ConditionReady, c.Generation)
	}
}

// nodeIs is a condition of a ServiceProxyNode; "absent" where there is none.
func nodeIs(ctx context.Context, name, kind string) func() string {
	return func() string {
		var n v1alpha1.ServiceProxyNode
		if err := world.Client().Get(ctx, client.ObjectKey{Name: name}, &n); err != nil {
			return "absent"
		}
		return condition(n.Status.Conditions, kind, n.Generation)
	}
}

// answer asks, and expects an answer.
func answer(ctx context.Context, from *cluster.Host, network, to string) cluster.Reply {
	GinkgoHelper()
	reply, err := from.Ask(ctx, network, to)
	Expect(err).NotTo(HaveOccurred())
	return reply
}

// asking asks over TCP whenever it is called, for Eventually.
func asking(ctx context.Context, from *cluster.Host, to string) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := from.Ask(ctx, "tcp", to)
		return err
	}
}
