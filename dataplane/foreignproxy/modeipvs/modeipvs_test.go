// Package modeipvs tests that what kube-proxy in mode ipvs left is removed. It is apart because it needs a kernel with IPVS.
package modeipvs

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/foreignproxy"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/test/kernel"
)

func TestMain(m *testing.M) { os.Exit(kernel.Main(m)) }

// What kube-proxy in mode ipvs writes, cut short, beside a rule of an administrator.
const rules = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A OUTPUT -j MINE
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
COMMIT
`

func TestOnlyWhatIsKubeProxysIsRemoved(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the namespace ends with the thread
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	addLink(t, "kube-ipvs0", "10.96.0.1", "10.96.0.80", "fd00:96::80")
	addLink(t, "mine0", "10.96.0.99")
	for _, name := range []string{"KUBE-CLUSTER-IP", "MINE"} {
		run(t, "", "ipset", "create", name, "hash:ip,port")
	}
	run(t, rules, "iptables-legacy-restore", "--noflush")

	servers, err := virtualserver.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = servers.Close() }()
	var batch virtualserver.Batch
	for _, address := range []string{"10.96.0.1:443", "10.96.0.80:80", "[fd00:96::80]:80", "10.96.0.99:80", "192.0.2.7:30080"} {
		s := virtualserver.New(virtualserver.At(netip.MustParseAddrPort(address), forwarding.TCP), "rr", 0)
		s.Flags &^= virtualserver.FlagOurs
		batch.AddServer(s)
	}
	for _, failure := range servers.Do(ctx, batch) {
		t.Fatal(failure)
	}

	found, err := foreignproxy.Look(ctx, "/")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ipvs"}, found.Rules); diff != "" {
		t.Errorf("found: -want +got:\n%s", diff)
	}
	if err := foreignproxy.Remove(ctx, "/"); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]string{"TCP 10.96.0.99:80", "TCP 192.0.2.7:30080"}, left(ctx, t, servers)); diff != "" {
		t.Errorf("virtual servers: -want +got:\n%s", diff)
	}
	if names, err := ipset.Names(""); err != nil || !cmp.Equal(names, []string{"MINE"}) {
		t.Errorf("sets: %v, %v", names, err)
	}
	if _, err := netlink.LinkByName("mine0"); err != nil {
		t.Error(err)
	}
	if out := run(t, "", "iptables-legacy-save", "-t", "nat"); strings.Contains(out, "KUBE-") || !strings.Contains(out, "-A OUTPUT -j MINE") {
		t.Errorf("rules:\n%s", out)
	}
	if found, err = foreignproxy.Look(ctx, "/"); err != nil || len(found.Rules) > 0 {
		t.Errorf("found after all was removed: %v, %v", found, err)
	}
}

// left are the virtual servers that there are, in order: the kernel lists them by a hash that is another one in every
// network namespace.
func left(ctx context.Context, t *testing.T, servers *virtualserver.Kernel) []string {
	t.Helper()
	states, err := servers.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, s := range states {
		texts = append(texts, strings.ToUpper(s.Key.String()))
	}
	slices.Sort(texts)
	return texts
}

// addLink makes a dummy link with addresses.
func addLink(t *testing.T, name string, addresses ...string) {
	t.Helper()
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ip := netip.MustParseAddr(a)
		addr, err := netlink.ParseAddr(netip.PrefixFrom(ip, ip.BitLen()).String())
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, input string, command ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
	return string(out)
}
