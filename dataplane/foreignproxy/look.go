package foreignproxy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Found is what of kube-proxy is on a node.
type Found struct {
	// Rules are the modes of kube-proxy, and the kinds of tables, of which there are rules: "iptables (nft)",
	// "iptables (legacy)", "nftables", "ipvs". Sorted; none when there are no rules.
	Rules []string
	// Running says whether kube-proxy runs, and Why how that is known or why it is not.
	Running Running
	Why     string
}

// Running is whether a program runs.
type Running int

// The answers. Unknown is what cannot be found out from where the agent is.
const (
	Unknown Running = iota
	Yes
	No
)

// String is what was found, in a sentence for people.
func (f *Found) String() string {
	if len(f.Rules) == 0 {
		return "no rules of another Service proxy were found"
	}
	text := "rules of kube-proxy are on this node (mode " + strings.Join(f.Rules, ", ") + "); "
	switch f.Running {
	case Yes:
		return text + "it runs: " + f.Why
	case No:
		return text + "it does not run: " + f.Why + "; agent cleanup --kube-proxy removes what it left"
	}
	return text + "whether it runs is not known: " + f.Why
}

// Look finds out what of kube-proxy is in the network namespace it is called in. Below hostRoot is the file system of the
// node, with its processes in proc where they can be seen. Where only a part could be looked at, that part is returned
// with the error.
func Look(ctx context.Context, hostRoot string) (*Found, error) {
	f := &Found{}
	var errs []error
	for _, look := range []func(context.Context) ([]string, error){lookNFT, lookLegacy, lookIPVS} {
		modes, err := look(ctx)
		f.Rules, errs = append(f.Rules, modes...), append(errs, err)
	}
	slices.Sort(f.Rules)
	f.Rules = slices.Compact(f.Rules)
	f.Running, f.Why = running(ctx, filepath.Join(hostRoot, "proc"))
	if err := errors.Join(errs...); err != nil {
		return f, fmt.Errorf("looking for rules of another Service proxy: %w", err)
	}
	return f, nil
}

// kubeProxyTable is the name of the table of mode nftables, in family ip and in ip6 (pkg/proxy/nftables of Kubernetes).
const kubeProxyTable = "kube-proxy"

// lookNFT looks at the tables of nf_tables: those of mode nftables, and those that iptables-nft keeps.
func lookNFT(context.Context) ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("opening nf_tables: %w", err)
	}
	var modes []string
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		tables, err := conn.ListTablesOfFamily(family)
		if err != nil && !missing(err) {
			return modes, fmt.Errorf("listing tables of nf_tables: %w", err)
		}
		chains, err := conn.ListChainsOfTableFamily(family)
		if err != nil && !missing(err) {
			return modes, fmt.Errorf("listing chains of nf_tables: %w", err)
		}
		if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == kubeProxyTable }) {
			modes = append(modes, "nftables")
		}
		if slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == "nat" && ofService(c.Name) }) {
			modes = append(modes, iptablesMode(xtables.NFT))
		}
	}
	return modes, nil
}

// missing says that the kernel has no nf_tables, or not for a family.
func missing(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) ||
		errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT)
}

func iptablesMode(b xtables.Backend) string { return "iptables (" + string(b) + ")" }

// ofService says whether a chain of table nat is one that only kube-proxy in mode iptables makes. Every cluster has a
// Service, that of the API server, so that wherever kube-proxy has written rules there is such a chain.
func ofService(chain string) bool {
	return slices.ContainsFunc(servicePrefixes(), func(prefix string) bool { return strings.HasPrefix(chain, prefix) })
}

// lookLegacy looks at the tables of iptables-legacy.
func lookLegacy(ctx context.Context) ([]string, error) {
	for _, p := range legacyPrograms() {
		if there, err := p.has("nat"); err != nil {
			return nil, err
		} else if !there {
			continue
		}
		chains, err := p.chains(ctx, "nat")
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(chains, ofService) {
			return []string{iptablesMode(xtables.Legacy)}, nil
		}
	}
	return nil, nil
}

// kubeIPVSLink is the link on which mode ipvs keeps the addresses of Services.
const kubeIPVSLink = "kube-ipvs0"

func lookIPVS(context.Context) ([]string, error) {
	switch _, err := netlink.LinkByName(kubeIPVSLink); {
	case err == nil:
		return []string{"ipvs"}, nil
	case !errors.As(err, &netlink.LinkNotFoundError{}):
		return nil, fmt.Errorf("looking for the link %s: %w", kubeIPVSLink, err)
	}
	names, err := kubeProxySets()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return []string{"ipvs"}, nil
}

// kubeProxySets lists the sets that mode ipvs has made, by name.
func kubeProxySets() ([]string, error) {
	names, err := ipset.Names("KUBE-")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return !slices.Contains(setNames(), strings.Replace(name, "KUBE-6-", "KUBE-", 1))
	}), nil
}

// setNames are the sets of mode ipvs (pkg/proxy/ipvs/ipset.go of Kubernetes). Those of IPv6 begin with KUBE-6-.
func setNames() []string {
	return []string{
		"KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL", "KUBE-LOAD-BALANCER",
		"KUBE-LOAD-BALANCER-LOCAL", "KUBE-LOAD-BALANCER-FW", "KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR",
		"KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP",
		"KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-IPVS-IPS",
	}
}
