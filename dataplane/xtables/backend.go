package xtables

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	goiptables "github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

// Backend is an implementation of iptables.
type Backend string

// The backends. Their names are those in the names of the programs, and in the API.
const (
	NFT    Backend = "nft"
	Legacy Backend = "legacy"
)

// ErrUnavailable is wrapped by every error that says that iptables cannot be used on this node at all.
var ErrUnavailable = errors.New("iptables is not available")

// lockSeconds is how long a program waits for the lock of xtables before it gives up.
const lockSeconds = 30

// Tools are the programs of one backend, known to work on this node.
type Tools struct {
	Backend Backend
	// Families are the programs for IPv4, and those for IPv6 where ip6tables work.
	Families []*Programs
}

// Programs are the programs of one family, and what the kernel offers to rules of that family.
type Programs struct {
	Family
	// MatchesHairpins says that one rule recognises every hairpin (xt_bpf).
	MatchesHairpins bool
	// MatchesSets says that rules can match and fill sets (ip_set, xt_set).
	MatchesSets bool
	// Direct says that rules are written by netlink, without a program being started. The programs stay for what netlink
	// could not write.
	Direct bool

	// writer is what writes directly. Its sockets go with the process: there is nothing to write after it.
	writer  nft.Writer
	command *goiptables.IPTables
	// restore and save are the paths of iptables-restore and iptables-save.
	restore, save string
}

// HasIPv6 says whether the node has ip6tables that work.
func (t *Tools) HasIPv6() bool { return len(t.Families) > 1 }

// Probe finds the backend that this node uses and sees that it works. An error wraps ErrUnavailable and says what to do.
func Probe(ctx context.Context) (*Tools, error) {
	backend, err := detect(ctx)
	if err != nil {
		return nil, err
	}
	t := &Tools{Backend: backend}
	for _, f := range families() {
		programs, err := open(ctx, backend, f)
		if err != nil && f.IPv6 {
			// A node without IPv6 is a node like any other.
			continue
		}
		if err != nil {
			return nil, err
		}
		t.Families = append(t.Families, programs)
	}
	return t, nil
}

// Hints are chains that the kubelet makes for others to see which backend the node uses (KEP-3178), and what kubelets
// before that made.
func hinted(save string) bool {
	return strings.Contains(save, ":KUBE-IPTABLES-HINT ") || strings.Contains(save, ":KUBE-KUBELET-CANARY ")
}

// detect finds the backend in use: the one with the kubelet's hint, else the one with more rules, else what the program
// iptables is.
func detect(ctx context.Context) (Backend, error) {
	saves := map[Backend]string{}
	for _, b := range []Backend{NFT, Legacy} {
		for _, program := range []string{"iptables", "ip6tables"} {
			// Without naming a table, legacy lists those that exist and does not make any.
			if path, err := exec.LookPath(fmt.Sprintf("%s-%s-save", program, b)); err == nil {
				out, _ := exec.CommandContext(ctx, path).Output() // what cannot be listed is not in use
				saves[b] += string(out)
			}
		}
	}
	rules := func(b Backend) int { return strings.Count(saves[b], "\n-A ") }
	switch {
	case hinted(saves[NFT]) != hinted(saves[Legacy]):
		if hinted(saves[Legacy]) {
			return Legacy, nil
		}
		return NFT, nil
	case rules(Legacy) != rules(NFT):
		if rules(Legacy) > rules(NFT) {
			return Legacy, nil
		}
		return NFT, nil
	}
	out, err := exec.CommandContext(ctx, "iptables", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%w: running iptables --version: %w; install the package xtables on the node or in the agent's image",
			ErrUnavailable, err)
	}
	if strings.Contains(string(out), "nf_tables") {
		return NFT, nil
	}
	return Legacy, nil
}

// open finds the programs of one family and sees whether they may do what they have to.
func open(ctx context.Context, backend Backend, f Family) (*Programs, error) {
	t := &Programs{Family: f}
	program, protocol := "iptables", goiptables.ProtocolIPv4
	if f.IPv6 {
		program, protocol = "ip6tables", goiptables.ProtocolIPv6
	}
	unavailable := func(doing string, err error) error {
		return fmt.Errorf("%w: %s: %w; install iptables and give the agent root and the capability NET_ADMIN", ErrUnavailable, doing, err)
	}
	var command string
	for suffix, path := range map[string]*string{"": &command, "-restore": &t.restore, "-save": &t.save} {
		found, err := exec.LookPath(fmt.Sprintf("%s-%s%s", program, backend, suffix))
		if err != nil {
			return nil, unavailable("looking for the programs", err)
		}
		*path = found
	}
	var err error
	t.command, err = goiptables.New(goiptables.IPFamily(protocol), goiptables.Path(command), goiptables.Timeout(lockSeconds))
	if err != nil {
		return nil, unavailable("asking for the version of "+command, err)
	}
	for _, table := range []string{"nat", "filter"} {
		if _, err := t.command.ListChains(table); err != nil {
			return nil, unavailable(fmt.Sprintf("listing table %s with %s", table, command), err)
		}
	}
	t.MatchesHairpins, t.MatchesSets = t.canMatchHairpins(ctx), t.canUseSets(ctx)
	t.Direct = backend == NFT && t.writesDirectly(ctx)
	return t, nil
}

// canMatchHairpins tries whether the kernel has the match bpf.
func (t *Programs) canMatchHairpins(ctx context.Context) bool {
	return t.Offers(ctx, "nat", fmt.Sprintf(` -m bpf --bytecode "%s" -j RETURN`, t.hairpin))
}

// canUseSets tries whether the kernel has sets, and rules that match and fill them.
func (t *Programs) canUseSets(ctx context.Context) bool {
	name := probe
	if err := ipset.Clients(name, t.IPv6, 1); err != nil && !errors.Is(err, unix.EEXIST) {
		return false
	}
	works := t.Offers(ctx, "nat", fmt.Sprintf(" -m set --match-set %s src -j SET --add-set %s src --exist --timeout 1", name, name))
	return ipset.Destroy(name) == nil && works
}

// probe is the name of a chain and of a set that are made to see what the kernel takes, and removed again.
const probe = "SPROXY-PROBE"

// Offers says whether the kernel takes a rule in a table. It is tried in a chain that nothing leads to.
func (t *Programs) Offers(ctx context.Context, table, rule string) bool {
	script := fmt.Sprintf("*%s\n:%s - [0:0]\n-A %s%s\nCOMMIT\n", table, probe, probe, rule)
	if err := t.apply(ctx, []byte(script)); err != nil {
		return false
	}
	return t.command.ClearAndDeleteChain(table, probe) == nil
}
