package xtables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"

	goiptables "github.com/coreos/go-iptables/iptables"

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

// OwnPrefix starts the names of all chains that an agent makes, in every mode, and of no others.
const OwnPrefix = "SPROXY"

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
	// CopiesTables says that a change of one rule has the kernel copy all rules of its table, as that of legacy iptables does.
	CopiesTables bool
	// Direct says that rules are written and read by netlink, without a program being started. The programs stay for what
	// netlink could not write or understand.
	Direct bool

	backend Backend
	// trial is the name of the chain and of the set in which it is tried what the kernel takes.
	trial string
	// writer is what writes directly. Its sockets go with the process: there is nothing to write after it.
	writer  nft.Writer
	reader  nft.Reader
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

// open finds the programs of one family and sees whether they may do what they have to.
func open(ctx context.Context, backend Backend, f Family) (*Programs, error) {
	t := &Programs{Family: f, backend: backend, CopiesTables: backend == Legacy, trial: newTrial(f.IPv6), reader: nft.Reader{IPv6: f.IPv6, Prefix: OwnPrefix}}
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
	if t.MatchesHairpins, t.MatchesSets, err = t.tryMatches(ctx); err != nil {
		return nil, unavailable(fmt.Sprintf("trying tables nat and filter with %s", command), err)
	}
	t.Direct = backend == NFT && t.writesDirectly(ctx)
	return t, nil
}

// tryMatches tries whether the kernel has the match bpf, and sets with rules that match and fill them. The error says that there
// is something wrong with the tables themselves.
func (t *Programs) tryMatches(ctx context.Context) (hairpins, sets bool, err error) {
	try := func(rules ...string) error {
		// In table filter, where there are few rules of ours: legacy iptables copies all of a table to change one.
		script := bytes.NewBufferString("*filter\n:" + t.trial + " - [0:0]\n")
		for _, rule := range rules {
			script.WriteString("-A " + t.trial + rule + "\n")
		}
		script.WriteString("COMMIT\n" + removal("filter", t.trial) + "*nat\nCOMMIT\n")
		return t.apply(ctx, script.Bytes())
	}
	bpf := fmt.Sprintf(` -m bpf --bytecode "%s" -j RETURN`, t.hairpin)
	set := fmt.Sprintf(" -m set --match-set %s src -j SET --add-set %s src --exist --timeout 1", t.trial, t.trial)
	if thereAreSets := ipset.Clients(t.trial, t.IPv6, 1) == nil; thereAreSets {
		defer func() { _ = ipset.Destroy(t.trial) }() // the mode that runs removes what is left
		if try(bpf, set) == nil {                     // as nearly everywhere
			return true, true, nil
		}
		sets = try(set) == nil
	}
	if hairpins = try(bpf) == nil; hairpins || sets {
		return hairpins, sets, nil
	}
	return false, false, try()
}

// trials starts the names of chains and of sets that are made to see what the kernel takes, and removed again. What is left by an
// agent that was killed meanwhile goes as every chain and set goes that begins so and is not wanted.
const (
	trials     = "SPROXY-4-PROBE"
	trialsIPv6 = "SPROXY-6-PROBE"
)

// newTrial is a name that no other agent uses: programs of one that was killed may still be at work.
func newTrial(ipv6 bool) string {
	if ipv6 {
		return fmt.Sprintf("%s%08X", trialsIPv6, rand.Uint32())
	}
	return fmt.Sprintf("%s%08X", trials, rand.Uint32())
}

// IsTrial says whether a chain is made to see what the kernel takes. It leads nowhere.
func IsTrial(chain string) bool {
	return strings.HasPrefix(chain, trials) || strings.HasPrefix(chain, trialsIPv6)
}

// removal is a script that removes a chain.
func removal(table, chain string) string {
	return fmt.Sprintf("*%s\n:%s - [0:0]\n-X %s\nCOMMIT\n", table, chain, chain)
}

// Offers says whether the kernel takes a rule in a table. It is tried in a chain that nothing leads to.
func (t *Programs) Offers(ctx context.Context, table, rule string) bool {
	script := fmt.Sprintf("*%s\n:%s - [0:0]\n-A %s%s\nCOMMIT\n", table, t.trial, t.trial, rule)
	return t.apply(ctx, []byte(script+removal(table, t.trial))) == nil
}
