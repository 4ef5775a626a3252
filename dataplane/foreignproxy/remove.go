package foreignproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

// ErrRunning says that kube-proxy runs, and would write again what was removed.
var ErrRunning = errors.New("kube-proxy runs on this node")

// Remove removes what a kube-proxy that is gone has left, of every mode: chains, tables, sets, its link, and the virtual
// servers at addresses that are on that link. Everything else stays: chains of kubelets, virtual servers of others, and also
// kube-proxy's own at addresses of the node, which nothing tells from those of others. Connections go on, except those
// that mode ipvs carries. An error wraps ErrRunning where kube-proxy is known to run; nothing is removed then.
func Remove(ctx context.Context, hostRoot string) error {
	found, err := Look(ctx, hostRoot)
	if err != nil {
		return err
	}
	if found.Running == Yes {
		return fmt.Errorf("removing what kube-proxy left: %w: %s; take it off the node first", ErrRunning, found.Why)
	}
	errs := []error{removeTables()}
	for _, p := range allPrograms() {
		for _, table := range []string{"filter", "nat", "mangle"} {
			errs = append(errs, p.remove(ctx, table))
		}
	}
	// After the chains, which refer to the sets.
	errs = append(errs, removeIPVS(ctx), removeSets())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing what kube-proxy left: %w", err)
	}
	return nil
}

// removeTables removes the tables of mode nftables.
func removeTables() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nf_tables: %w", err)
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		tables, err := conn.ListTablesOfFamily(family)
		if err != nil && !missing(err) {
			return fmt.Errorf("listing tables of nf_tables: %w", err)
		}
		for _, t := range tables {
			if t.Name == kubeProxyTable {
				conn.DelTable(t)
			}
		}
	}
	if err := conn.Flush(); err != nil && !missing(err) {
		return fmt.Errorf("removing table %s of nf_tables: %w", kubeProxyTable, err)
	}
	return nil
}

// removeIPVS removes the link of mode ipvs and the virtual servers at its addresses.
func removeIPVS(ctx context.Context) (err error) {
	link, err := netlink.LinkByName(kubeIPVSLink)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for the link %s: %w", kubeIPVSLink, err)
	}
	addresses, err := addressesOn(link)
	if err != nil {
		return err
	}
	servers, err := virtualserver.Open()
	if err != nil {
		return fmt.Errorf("opening IPVS: %w", err)
	}
	defer func() { err = errors.Join(err, servers.Close()) }()
	states, err := servers.List(ctx)
	if _, missing := errors.AsType[*virtualserver.MissingModuleError](err); err != nil && !missing {
		return fmt.Errorf("listing virtual servers: %w", err)
	}
	var batch virtualserver.Batch
	for _, s := range states {
		if s.Mark == 0 && addresses[s.Addr] && !s.Ours() {
			batch.DeleteServer(s.Key)
		}
	}
	var errs []error
	for _, failure := range servers.Do(ctx, batch) {
		errs = append(errs, failure)
	}
	if err := netlink.LinkDel(link); err != nil {
		errs = append(errs, fmt.Errorf("removing the link %s: %w", kubeIPVSLink, err))
	}
	return errors.Join(errs...)
}

// addressesOn are the addresses on a link.
func addressesOn(link netlink.Link) (map[netip.Addr]bool, error) {
	all, err := netlink.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("listing the addresses on %s: %w", link.Attrs().Name, err)
	}
	addresses := map[netip.Addr]bool{}
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			addresses[ip.Unmap()] = true
		}
	}
	return addresses, nil
}

func removeSets() error {
	names, err := kubeProxySets()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, ipset.Destroy(name))
	}
	return errors.Join(errs...)
}
