package nft_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

// forms are the forms of rules that there are, as iptables-save prints them; some for one family only.
func (f family) forms() map[string]string {
	const comment = ` -m comment --comment "kube-system/dns:dns-tcp cluster IP"`
	forms := map[string]string{
		"a comment":                              comment + " -j ACCEPT",
		"a comment with quotation marks":         ` -m comment --comment "a \"b\" \\ c" -j DROP`,
		"a comment of one word":                  " -m comment --comment word -j RETURN",
		"a longest comment":                      ` -m comment --comment "` + strings.Repeat("x ", 127) + `y" -j RETURN`,
		"a jump":                                 " -j THERE",
		"a goto":                                 " -g THERE",
		"a port":                                 " -p tcp -m tcp --dport 80 -j THERE",
		"a port of UDP":                          " -p udp -m udp --dport 53 -j THERE",
		"a port of SCTP":                         " -p sctp -m sctp --dport 3868 -j THERE",
		"ports":                                  " -p tcp -m tcp --dport 30000:32767 -g THERE",
		"ports from the first":                   " -p udp -m udp --dport 0:1023 -g THERE",
		"ports to the last":                      " -p tcp -m tcp --dport 1024:65535 -g THERE",
		"ports of SCTP":                          " -p sctp -m sctp --dport 30000:32767 -g THERE",
		"a device":                               " -i lo -j RETURN",
		"another device":                         " ! -i eth0 -j RETURN",
		"devices that begin alike":               " -o veth+ -j RETURN",
		"no device that begins so":               " ! -o cali+ -j RETURN",
		"a device with a longest name":           " -i abcdefghijklmno -j RETURN",
		"a mark bit":                             " -m mark --mark 0x4000/0x4000 -j RETURN",
		"a mark bit that is not set":             " -m mark ! --mark 0x4000/0x4000 -j RETURN",
		"a whole mark":                           " -m mark --mark 0x7 -j RETURN",
		"setting a mark bit":                     " -j MARK --set-xmark 0x4000/0x4000",
		"taking a mark bit back":                 " -j MARK --set-xmark 0x0/0x4000",
		"states":                                 " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"new connections":                        " -m conntrack --ctstate NEW -j THERE",
		"what conntrack does not know":           " -m conntrack --ctstate INVALID -j DROP",
		"translated connections":                 " -m conntrack --ctstate DNAT -j RETURN",
		"connections that are not translated":    " -m conntrack ! --ctstate DNAT -j RETURN",
		"addresses of the node":                  " -m addrtype --dst-type LOCAL -j THERE",
		"clients on the node":                    " -m addrtype --src-type LOCAL -j THERE",
		"a share":                                " -m statistic --mode random --probability 0.33333333349 -j THERE",
		"all":                                    " -m statistic --mode random --probability 1.00000000000 -j THERE",
		"masquerade":                             " -j MASQUERADE",
		"masquerade from random ports":           " -j MASQUERADE --random-fully",
		"refusing TCP":                           " -p tcp -j REJECT --reject-with tcp-reset",
		"a set":                                  " -m set --match-set " + f.set() + " src -j RETURN",
		"a set that is not to match":             " -m set ! --match-set " + f.set() + " dst -j RETURN",
		"filling a set":                          " -j SET --add-set " + f.set() + " src --exist --timeout 10800",
		"filling a set for as long as it says":   " -j SET --add-set " + f.set() + " dst",
		"all together, with a share and a chain": " -p udp" + comment + " -m statistic --mode random --probability 0.50000000000 -g THERE",
	}
	own := map[string]string{
		"an address":                           " -d 10.96.0.10/32 -g THERE",
		"a network":                            " -d 10.96.0.0/12 -j THERE",
		"a network of whole bytes":             " -s 10.244.0.0/16 -j THERE",
		"no network":                           " ! -s 10.244.0.0/14 -j THERE",
		"a Service in one rule":                " -d 10.96.0.10/32 -p tcp -m tcp --dport 53" + comment + " -j DNAT --to-destination 10.244.0.5:5353",
		"a comment before other matches":       " -d 10.96.0.10/32 -p tcp" + comment + " -m tcp --dport 53 -j DNAT --to-destination 10.244.0.5:5353",
		"a backend":                            " -p tcp -m statistic --mode random --probability 0.25000000000 -j DNAT --to-destination 10.244.3.7:8080",
		"refusing":                             " -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable",
		"source, destination, device and port": " -s 10.0.0.0/9 -d 10.96.0.0/12 -i eth0 -p tcp -m tcp --dport 443 -j ACCEPT",
		"a client that is remembered":          " -m recent --set --name SPROXY-AFFINITY --mask 255.255.255.255 --rsource -j RETURN",
		"a client that comes again":            " -m recent --update --seconds 10800 --reap --name SPROXY-AFFINITY --mask 255.255.255.255 --rsource -j RETURN",
		"a program":                            ` -m bpf --bytecode "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0" -j RETURN`,
	}
	if f.ipv6 {
		own = map[string]string{
			"an address":                  " -d fd00:96::a/128 -g THERE",
			"a network":                   " -d fd00:96::/107 -j THERE",
			"a network of whole bytes":    " -s fd00:244::/48 -j THERE",
			"no network":                  " ! -s fd00:244::/47 -j THERE",
			"a Service in one rule":       " -d fd00:96::a/128 -p tcp -m tcp --dport 53" + comment + " -j DNAT --to-destination [fd00:244::5]:5353",
			"a backend":                   " -p tcp -m statistic --mode random --probability 0.25000000000 -j DNAT --to-destination [fd00:244::3:7]:8080",
			"refusing":                    " -p udp -m udp --dport 53 -j REJECT --reject-with icmp6-port-unreachable",
			"a client that is remembered": " -m recent --set --name SPROXY-AFFINITY --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource -j RETURN",
		}
	}
	maps.Copy(forms, own)
	return forms
}

// endsWithNote says whether a rule has a comment that is a note of the rule here and a match with iptables-nft.
func endsWithNote(rule string) bool {
	return regexp.MustCompile(` -m comment --comment ("[^"]*(\\.[^"]*)*"|\w+) -[jg] [A-Z]+( --to-destination \S+)?$`).MatchString(rule)
}

// table is where a rule may be written: not every target may be everywhere.
func table(rule string) string {
	if strings.Contains(rule, "REJECT") || strings.Contains(rule, "DROP") {
		return "filter"
	}
	return "nat"
}

func (f family) set() string {
	if f.ipv6 {
		return "clients6"
	}
	return "clients"
}

func (f family) prepare() {
	GinkgoHelper()
	inet := "inet"
	if f.ipv6 {
		inet = "inet6"
	}
	run("ipset", "create", f.set(), "hash:ip", "family", inet, "timeout", "60")
	for _, table := range []string{"nat", "filter"} {
		f.restore("*" + table + "\n:THERE - [0:0]\n:THEIRS - [0:0]\nCOMMIT\n")
	}
}

// held is what the kernel holds of each rule of a chain, without its number.
func (f family) held(ctx context.Context, table, chain string) []string {
	GinkgoHelper()
	conn, err := netlink.Open(unix.NETLINK_NETFILTER)
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(conn.Close()).To(Succeed()) }()
	number := byte(unix.NFPROTO_IPV4)
	if f.ipv6 {
		number = unix.NFPROTO_IPV6
	}
	var rules []string
	_, err = conn.Dump(ctx, netlink.Request{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Body: []byte{number, 0, 0, 0}},
		func(_ uint16, body []byte) {
			attributes := body[4:]
			var where []string
			var rule strings.Builder
			for a, ok := netlink.Next(&attributes); ok; a, ok = netlink.Next(&attributes) {
				switch a.Kind {
				case unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN:
					where = append(where, strings.TrimRight(string(a.Value), "\x00"))
				case unix.NFTA_RULE_HANDLE, unix.NFTA_RULE_POSITION:
				default:
					fmt.Fprintf(&rule, "%d: %q\n", a.Kind, a.Value)
				}
			}
			if slices.Equal(where, []string{table, chain}) {
				rules = append(rules, rule.String())
			}
		})
	Expect(err).NotTo(HaveOccurred())
	return rules
}

var _ = Describe("A rule", func() {
	for _, f := range families() {
		for name, rule := range f.forms() {
			It(fmt.Sprintf("is what iptables-nft makes of it: %s (%s)", name, f.program), inNamespace(func(ctx SpecContext) {
				f.prepare()
				t := table(rule)
				f.restore("*" + t + "\n-A THEIRS" + rule + "\nCOMMIT\n")
				transaction := begin(ctx, f.ipv6)
				transaction.Chain(t, "OURS")
				Expect(transaction.Append(t, "OURS", rule)).To(Succeed())
				Expect(transaction.Commit(ctx)).To(Succeed())

				if !endsWithNote(rule) {
					Expect(f.held(ctx, t, "OURS")).To(Equal(f.held(ctx, t, "THEIRS")))
				}
				Expect(f.rules(t, "OURS")).To(Equal([]string{rule}))
				Expect(f.reader().Read(ctx)).To(HaveKeyWithValue(t, And(HaveKeyWithValue("OURS", []string{rule}),
					HaveKeyWithValue("THEIRS", []string{rule}))))
				// iptables finds it by its words.
				f.restore("*" + t + "\n-D OURS" + rule + "\nCOMMIT\n")
				Expect(f.rules(t, "OURS")).To(BeEmpty())
			}))
		}
	}

	It("that it does not know is an error that says so", inNamespace(func(ctx SpecContext) {
		for _, rule := range []string{
			" -p icmp -j ACCEPT", " -p tcp -m multiport --dports 80,443 -j ACCEPT", " -j MARK --set-mark 1", " -j DNAT --to-destination 10.0.0.1",
			" -p tcp -j DNAT --to-destination [fd00::1]:80", " -d fd00::/64 -j ACCEPT", " -d 10.0.0.1/8 -j ACCEPT", " -m tcp --dport 80 -j ACCEPT",
			" -p tcp -m tcp --sport 80 -j ACCEPT", " -m limit --limit 1/sec -j ACCEPT", " -j REJECT --reject-with tcp-reset", " -m", " !", " word",
			" -p tcp -m tcp --dport 90:80 -j ACCEPT", " -m statistic --mode nth --every 2 -j ACCEPT", " -j LOG --log-prefix x",
			" -m set --match-set clients src,dst,src,dst,src,dst,src -j ACCEPT", ` -m comment --comment "" -j ACCEPT`,
			" -m comment --comment " + strings.Repeat("x", 256) + " -j ACCEPT", " -i abcdefghijklmnop -j ACCEPT", " -s 0.0.0.0/0 -j ACCEPT",
		} {
			err := begin(ctx, false).Append("nat", "OURS", rule)
			Expect(err).To(Or(MatchError(nft.ErrUnknown), MatchError(unix.ENOENT)), rule)
			Expect(err).To(MatchError(ContainSubstring("adding to chain OURS of table nat (OURS"+rule+")")), rule)
		}
	}))
})

var _ = Describe("A transaction", func() {
	for _, f := range families() {
		It("makes tables, chains and jumps that iptables works with ("+f.program+")", inNamespace(func(ctx SpecContext) {
			t := begin(ctx, f.ipv6)
			for _, table := range []string{"mangle", "nat", "filter"} {
				t.Table(table)
				t.BuiltinChains(table)
				t.Chain(table, "OURS")
			}
			Expect(t.Append("nat", "OURS", " -j RETURN")).To(Succeed())
			Expect(t.Insert("nat", "OUTPUT", " -j OURS")).To(Succeed())
			Expect(t.Commit(ctx)).To(Succeed())
			theirs := f.tables()
			run(f.program+"-nft", "-t", "nat", "-A", "PREROUTING", "-j", "OURS")
			Expect(f.rules("nat", "PREROUTING")).To(Equal([]string{" -j OURS"}))
			Expect(f.rules("nat", "OUTPUT")).To(Equal([]string{" -j OURS"}))

			inNamespace(func(ctx SpecContext) { // what iptables makes itself
				for _, table := range []string{"mangle", "nat", "filter"} {
					f.restore("*" + table + "\n:OURS - [0:0]\nCOMMIT\n")
				}
				f.restore("*nat\n-A OURS -j RETURN\n-I OUTPUT 1 -j OURS\nCOMMIT\n")
				Expect(f.tables()).To(Equal(theirs))
			})(ctx)
		}))

		It("replaces what a chain has, and removes chains, among rules of others ("+f.program+")", inNamespace(func(ctx SpecContext) {
			f.restore("*nat\n:OURS - [0:0]\n:OLD - [0:0]\n:FOREIGN - [0:0]\n-A OURS -j OLD\n-A OLD -j RETURN\n-A FOREIGN -j OURS\n-A OUTPUT -j FOREIGN\nCOMMIT\n")
			t := begin(ctx, f.ipv6)
			t.Table("nat")
			for _, chain := range []string{"NEW", "OLD", "OURS"} {
				t.Chain("nat", chain)
			}
			Expect(t.Append("nat", "OURS", " -g NEW")).To(Succeed())
			t.Remove("nat", "OLD")
			Expect(t.Commit(ctx)).To(Succeed())
			Expect(f.rules("nat", "OURS")).To(Equal([]string{" -g NEW"}))
			Expect(f.rules("nat", "FOREIGN")).To(Equal([]string{" -j OURS"}))
			Expect(run(f.program+"-nft-save", "-t", "nat")).NotTo(ContainSubstring("OLD"))
		}))

		It("changes nothing when the kernel refuses a part of it, and says which ("+f.program+")", inNamespace(func(ctx SpecContext) {
			f.restore("*nat\n:OURS - [0:0]\n:USED - [0:0]\n-A OURS -j USED\nCOMMIT\n")
			before := f.tables()
			t := begin(ctx, f.ipv6)
			t.Table("nat")
			t.Chain("nat", "NEW")
			Expect(t.Append("nat", "NEW", " -j NOWHERE")).To(Succeed())
			err := t.Commit(ctx)
			Expect(err).To(MatchError(unix.ENOENT))
			Expect(err).To(MatchError(ContainSubstring("adding to chain NEW of table nat (NEW -j NOWHERE)")))
			Expect(f.tables()).To(Equal(before))

			t = begin(ctx, f.ipv6)
			t.Chain("nat", "NEW")
			t.Remove("nat", "USED")
			err = t.Commit(ctx)
			Expect(err).To(MatchError(unix.EBUSY))
			Expect(err).To(MatchError(ContainSubstring("removing chain USED of table nat")))
			_, refused := errors.AsType[*netlink.Refusal](err)
			Expect(refused).To(BeTrue())
			Expect(f.tables()).To(Equal(before))
		}))

		It("may be large ("+f.program+")", inNamespace(func(ctx SpecContext) {
			const chains = 5_000
			t := begin(ctx, f.ipv6)
			t.Table("nat")
			for i := range chains {
				name := fmt.Sprintf("C%d", i)
				t.Chain("nat", name)
				Expect(t.Append("nat", name, ` -m comment --comment "a Service" -m statistic --mode random --probability 0.50000000000 -j RETURN`)).To(Succeed())
			}
			Expect(t.Commit(ctx)).To(Succeed())
			Expect(f.rules("nat", fmt.Sprintf("C%d", chains-1))).To(HaveLen(1))
			t = begin(ctx, f.ipv6)
			for i := range chains {
				t.Chain("nat", fmt.Sprintf("C%d", i))
			}
			for i := range chains {
				t.Remove("nat", fmt.Sprintf("C%d", i))
			}
			Expect(t.Commit(ctx)).To(Succeed())
			Expect(run(f.program+"-nft-save", "-t", "nat")).NotTo(ContainSubstring("C1"))
		}))
	}
})

// begin begins a transaction of a writer that ends with the spec.
func begin(ctx context.Context, ipv6 bool) *nft.Transaction {
	w := new(nft.Writer)
	DeferCleanup(w.Close)
	return w.Begin(ctx, ipv6)
}

// tables is all that iptables shows, without counters and times.
func (f family) tables() string {
	GinkgoHelper()
	var lines []string
	for line := range strings.Lines(run(f.program + "-nft-save")) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.Split(line, " [")[0])
		}
	}
	return strings.Join(lines, "\n")
}
