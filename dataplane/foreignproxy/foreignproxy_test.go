package foreignproxy_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/foreignproxy"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
)

// others is what stands on a node beside a proxy: chains of a kubelet, and rules of an administrator, one of which has a
// chain of kube-proxy in a comment.
const others = `*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-DROP - [0:0]
:MINE - [0:0]
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
-A PREROUTING -p tcp -m tcp --dport 81 -m comment --comment "-j KUBE-SERVICES" -j MINE
-A MINE -j RETURN
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
COMMIT
`

// kubeProxy is what kube-proxy in mode iptables writes, cut short.
const kubeProxy = `*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SEP-A2FBW5SKJVOY4BZD - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-A2FBW5SKJVOY4BZD
-A KUBE-SEP-A2FBW5SKJVOY4BZD -j KUBE-MARK-MASQ
COMMIT
*filter
:KUBE-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
`

func look(ctx context.Context) *foreignproxy.Found {
	GinkgoHelper()
	found, err := foreignproxy.Look(ctx, "/")
	Expect(err).NotTo(HaveOccurred())
	return found
}

var _ = Describe("Rules of another proxy", func() {
	for _, backend := range []string{"nft", "legacy"} {
		It("are not what a kubelet and an administrator make ["+backend+"]", func(ctx context.Context) {
			enterNamespace()
			Expect(look(ctx).Rules).To(BeEmpty())
			restore(backend, others)
			found := look(ctx)
			Expect(found.Rules).To(BeEmpty())
			Expect(found.String()).To(Equal("no rules of another Service proxy were found"))
		})

		It("are found and removed, and everything else stays ["+backend+"]", func(ctx context.Context) {
			enterNamespace()
			restore(backend, others)
			before := saved(backend)
			restore(backend, kubeProxy)
			found := look(ctx)
			Expect(found.Rules).To(Equal([]string{"iptables (" + backend + ")"}))
			Expect(found.Running).NotTo(Equal(foreignproxy.Yes))
			Expect(foreignproxy.Remove(ctx, "/")).To(Succeed())
			Expect(saved(backend)).To(Equal(before))
			Expect(look(ctx).Rules).To(BeEmpty())
			Expect(foreignproxy.Remove(ctx, "/")).To(Succeed(), "a second time")
		})

		It("stay as far as somebody else uses them ["+backend+"]", func(ctx context.Context) {
			enterNamespace()
			restore(backend, kubeProxy)
			restore(backend, "*nat\n:CNI-HOSTPORT - [0:0]\n-A CNI-HOSTPORT -j KUBE-MARK-MASQ\nCOMMIT\n")
			Expect(foreignproxy.Remove(ctx, "/")).To(Succeed())
			Expect(saved(backend)["iptables nat"]).To(And(
				ContainSubstring("-A KUBE-MARK-MASQ -j MARK"),
				ContainSubstring("-A KUBE-POSTROUTING -j MASQUERADE"),
				ContainSubstring("-j KUBE-POSTROUTING"),
				Not(ContainSubstring("KUBE-SERVICES"))))
			Expect(look(ctx).Rules).To(BeEmpty())
		})
	}

	It("are in a table of mode nftables", func(ctx context.Context) {
		enterNamespace()
		for _, family := range []string{"ip", "ip6"} {
			run("nft", "add", "table", family, "kube-proxy")
			run("nft", "add", "table", family, "mine")
		}
		Expect(look(ctx).Rules).To(Equal([]string{"nftables"}))
		Expect(foreignproxy.Remove(ctx, "/")).To(Succeed())
		Expect(run("nft", "list", "tables")).To(And(
			ContainSubstring("table ip mine"), ContainSubstring("table ip6 mine"), Not(ContainSubstring("kube-proxy"))))
	})

	It("are sets of mode ipvs", func(ctx context.Context) {
		enterNamespace()
		for _, name := range []string{"KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP", "KUBE-SOMETHING", "MINE"} {
			run("ipset", "create", name, "hash:ip")
		}
		Expect(look(ctx).Rules).To(Equal([]string{"ipvs"}))
		Expect(foreignproxy.Remove(ctx, "/")).To(Succeed())
		Expect(ipset.Names("")).To(ConsistOf("KUBE-SOMETHING", "MINE"))
		Expect(look(ctx).Rules).To(BeEmpty())
	})
})
