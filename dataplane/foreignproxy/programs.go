package foreignproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// programs are iptables-save and iptables-restore of one backend and family.
type programs struct {
	save, restore string
	// tables lists the tables there are. iptables-legacy-save would make the one it is to list, and iptables-nft-save fails
	// where the kernel has no nf_tables.
	tables func() ([]string, error)
}

func legacyPrograms() []programs {
	return []programs{
		newPrograms(xtables.Legacy, "iptables", listed("/proc/thread-self/net/ip_tables_names")),
		newPrograms(xtables.Legacy, "ip6tables", listed("/proc/thread-self/net/ip6_tables_names")),
	}
}

func allPrograms() []programs {
	return append(legacyPrograms(),
		newPrograms(xtables.NFT, "iptables", tablesOf(nftables.TableFamilyIPv4)),
		newPrograms(xtables.NFT, "ip6tables", tablesOf(nftables.TableFamilyIPv6)))
}

func newPrograms(b xtables.Backend, program string, tables func() ([]string, error)) programs {
	name := program + "-" + string(b)
	return programs{save: name + "-save", restore: name + "-restore", tables: tables}
}

// listed lists the names in a file. A file that is not there has none.
func listed(file string) func() ([]string, error) {
	return func() ([]string, error) {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("listing tables of iptables: %w", err)
		}
		return strings.Fields(string(text)), nil
	}
}

// tablesOf lists the tables of a family in nf_tables.
func tablesOf(family nftables.TableFamily) func() ([]string, error) {
	return func() ([]string, error) {
		conn, err := nftables.New()
		if err != nil {
			return nil, fmt.Errorf("opening nf_tables: %w", err)
		}
		tables, err := conn.ListTablesOfFamily(family)
		if err != nil && !missing(err) {
			return nil, fmt.Errorf("listing tables of nf_tables: %w", err)
		}
		names := make([]string, 0, len(tables))
		for _, t := range tables {
			names = append(names, t.Name)
		}
		return names, nil
	}
}

// has says whether a table is there, and a program to list it.
func (p programs) has(table string) (bool, error) {
	if _, err := exec.LookPath(p.save); err != nil {
		return false, nil //nolint:nilerr // without the programs nobody has used them here
	}
	tables, err := p.tables()
	return slices.Contains(tables, table), err
}

// read lists the rules of a table by chain, as iptables-save prints them.
func (p programs) read(ctx context.Context, table string) (map[string][]string, error) {
	cmd := exec.CommandContext(ctx, p.save, "-t", table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running %s -t %s: %w: %s", p.save, table, err, strings.TrimSpace(stderr.String()))
	}
	rules := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if declared, is := strings.CutPrefix(line, ":"); is {
			chain, _, _ := strings.Cut(declared, " ")
			rules[chain] = append([]string{}, rules[chain]...)
		} else if rest, is := strings.CutPrefix(line, "-A "); is {
			chain, _, _ := strings.Cut(rest, " ")
			rules[chain] = append(rules[chain], rest)
		}
	}
	return rules, nil
}

func (p programs) chains(ctx context.Context, table string) ([]string, error) {
	rules, err := p.read(ctx, table)
	return slices.Sorted(maps.Keys(rules)), err
}

// removal is what iptables-restore has to be given to remove chains of a table, in two transactions: the jumps to them
// first, because iptables-nft refuses to remove a chain that was jumped to when a transaction began. Empty where there is
// nothing to remove.
func removal(table string, rules map[string][]string) string {
	doomed := doomed(rules)
	if len(doomed) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("*" + table + "\n")
	for _, chain := range slices.Sorted(maps.Keys(rules)) {
		for _, rule := range rules[chain] {
			if !doomed[chain] && doomed[target(rule)] {
				b.WriteString("-D " + rule + "\n")
			}
		}
	}
	b.WriteString("COMMIT\n*" + table + "\n")
	names := slices.Sorted(maps.Keys(doomed))
	for _, chain := range names {
		b.WriteString(":" + chain + " - [0:0]\n") // empties it
	}
	for _, chain := range names {
		b.WriteString("-X " + chain + "\n")
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// doomed are the chains of kube-proxy. Those that mark packets to be masqueraded, and that masquerade them, stay where somebody
// else uses them, as the plugin portmap of CNI can be told to.
func doomed(rules map[string][]string) map[string]bool {
	doomed := map[string]bool{}
	for chain := range rules {
		if slices.Contains(chainNames(), chain) || ofService(chain) {
			doomed[chain] = true
		}
	}
	for chain, all := range rules {
		for _, rule := range all {
			if !doomed[chain] && target(rule) == markChain {
				delete(doomed, markChain)
				delete(doomed, masqueradeChain)
			}
		}
	}
	return doomed
}

// target is the chain or target that a rule ends in, empty when it has none.
func target(rule string) string {
	words := strings.Fields(rule)
	for i, word := range words[:max(0, len(words)-1)] {
		if (word == "-j" || word == "-g") && !strings.HasSuffix(words[i+1], `"`) {
			return words[i+1]
		}
	}
	return ""
}

// The chains that mark what is to be masqueraded and that masquerade it.
const (
	markChain       = "KUBE-MARK-MASQ"
	masqueradeChain = "KUBE-POSTROUTING"
)

// chainNames are the chains of modes iptables and ipvs that there is one of (pkg/proxy/iptables and ipvs of Kubernetes).
func chainNames() []string {
	return []string{
		"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY",
		"KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
		markChain, masqueradeChain,
	}
}

// servicePrefixes begin the names of the chains of Services and endpoints. KUBE-XLB- is of versions before 1.24.
func servicePrefixes() []string {
	return []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"}
}

// remove removes the chains of kube-proxy from a table.
func (p programs) remove(ctx context.Context, table string) error {
	if there, err := p.has(table); err != nil || !there {
		return err
	}
	rules, err := p.read(ctx, table)
	if err != nil {
		return err
	}
	script := removal(table, rules)
	if script == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, p.restore, "-w", "5", "--noflush")
	cmd.Stdin = strings.NewReader(script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s for table %s: %w: %s", p.restore, table, err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
