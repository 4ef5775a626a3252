package xtables

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// detect finds the backend in use: the one with the kubelet's hint, else the one with more rules, else what the program
// iptables is. Nothing is listed that cannot decide: with many Services a list takes seconds.
func detect(ctx context.Context) (Backend, error) {
	nft, legacy := use{NFT, nftTables()}, use{Legacy, legacyTables()}
	if hinted := nft.hinted(ctx); hinted != legacy.hinted(ctx) {
		if hinted {
			return NFT, nil
		}
		return Legacy, nil
	}
	usual, other := legacy, nft
	out, err := exec.CommandContext(ctx, "iptables", "--version").Output()
	if strings.Contains(string(out), "nf_tables") {
		usual, other = nft, legacy
	}
	rules := other.rules(ctx)
	if rules > 0 && rules > usual.rules(ctx) {
		return other.backend, nil
	}
	if err != nil && usual.rules(ctx) <= rules {
		return "", fmt.Errorf("%w: running iptables --version: %w; install the package xtables on the node or in the agent's image",
			ErrUnavailable, err)
	}
	return usual.backend, nil
}

// use is how a backend is used: its tables, by the program of their family.
type use struct {
	backend Backend
	tables  map[string][]string
}

// legacyTables are the tables there are. To list one that is not there would make it.
func legacyTables() map[string][]string {
	tables := map[string][]string{}
	for program, file := range map[string]string{"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"} {
		text, _ := os.ReadFile("/proc/thread-self/net/" + file) // it is there when the module is
		tables[program] = strings.Fields(string(text))
	}
	return tables
}

// nftTables are the tables there are; none where nf_tables cannot be asked.
func nftTables() map[string][]string {
	tables := map[string][]string{}
	conn, err := nftables.New()
	if err != nil {
		return tables
	}
	for program, family := range map[string]nftables.TableFamily{"iptables": nftables.TableFamilyIPv4, "ip6tables": nftables.TableFamilyIPv6} {
		found, _ := conn.ListTablesOfFamily(family)
		for _, t := range found {
			tables[program] = append(tables[program], t.Name)
		}
	}
	return tables
}

// hinted looks for chains that the kubelet makes for others to see which backend the node uses (KEP-3178), and what kubelets
// before that made. Both are in table mangle.
func (u *use) hinted(ctx context.Context) bool {
	for program, tables := range u.tables {
		if !slices.Contains(tables, "mangle") {
			continue
		}
		for _, chain := range u.mangle(ctx, program) {
			if chain == "KUBE-IPTABLES-HINT" || chain == "KUBE-KUBELET-CANARY" {
				return true
			}
		}
	}
	return false
}

// mangle are the names of the chains of table mangle. nf_tables is asked for them by netlink: iptables-nft-save reads what all
// tables hold, whichever it is to print.
func (u *use) mangle(ctx context.Context, program string) []string {
	if u.backend == NFT {
		family := Family{IPv6: program == "ip6tables"}
		chains, _ := family.nftChains(func(table string) bool { return table == "mangle" }) // what cannot be listed is not in use
		return chains
	}
	var chains []string
	for line := range strings.Lines(u.save(ctx, program, "-t", "mangle")) {
		if chain, is := strings.CutPrefix(line, ":"); is {
			chain, _, _ = strings.Cut(chain, " ")
			chains = append(chains, chain)
		}
	}
	return chains
}

// rules is how many rules there are in both families.
func (u *use) rules(ctx context.Context) int {
	n := 0
	for program, tables := range u.tables {
		if len(tables) > 0 {
			n += strings.Count(u.save(ctx, program), "\n-A ")
		}
	}
	return n
}

// save is what a program saves; what cannot be listed is not in use.
func (u *use) save(ctx context.Context, program string, args ...string) string {
	path, err := exec.LookPath(fmt.Sprintf("%s-%s-save", program, u.backend))
	if err != nil {
		return ""
	}
	out, _ := exec.CommandContext(ctx, path, args...).Output()
	return string(out)
}
