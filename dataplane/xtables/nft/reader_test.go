package nft_test

import (
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

var _ = Describe("A reader", func() {
	for _, f := range families() {
		It("reads all tables, chains and rules in their order ("+f.program+")", inNamespace(func(ctx SpecContext) {
			f.prepare()
			f.restore("*nat\n:OURS - [0:0]\n:EMPTY - [0:0]\n-A OURS -j EMPTY\n-A OURS -p tcp -j EMPTY\n-A OURS -p udp -j THERE\n-I OUTPUT -j OURS\nCOMMIT\n" +
				"*mangle\n:HINT - [0:0]\nCOMMIT\n")
			run("nft", "add", "table", f.nftFamily(), "others")
			run("nft", "add", "chain", f.nftFamily(), "others", "strange")
			rules, err := f.reader().Read(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(rules).To(HaveLen(3))
			Expect(rules["nat"]).To(Equal(map[string][]string{
				"OUTPUT": {" -j OURS"}, "THERE": {}, "THEIRS": {}, "EMPTY": {},
				"OURS": {" -j EMPTY", " -p tcp -j EMPTY", " -p udp -j THERE"},
			}))
			Expect(rules["mangle"]).To(HaveKeyWithValue("HINT", []string{}))
			Expect(rules).To(HaveKey("filter"))
		}))

		It("reads ahead, and again what has changed since ("+f.program+")", inNamespace(func(ctx SpecContext) {
			f.restore("*nat\n:OURS - [0:0]\n-A OURS -p tcp -j ACCEPT\nCOMMIT\n")
			r := f.reader()
			ours := func() []string {
				GinkgoHelper()
				rules, err := r.Read(ctx)
				Expect(err).NotTo(HaveOccurred())
				return rules["nat"]["OURS"]
			}
			Expect(r.ReadAhead(ctx)).To(Succeed())
			Expect(ours()).To(Equal([]string{" -p tcp -j ACCEPT"}))
			Expect(r.ReadAhead(ctx)).To(Succeed())
			f.restore("*nat\n-A OURS -p udp -j ACCEPT\nCOMMIT\n")
			Expect(ours()).To(Equal([]string{" -p tcp -j ACCEPT", " -p udp -j ACCEPT"}))
			Expect(r.ReadAhead(ctx)).To(Succeed())
			Expect(ours()).To(HaveLen(2))
			f.restore("*nat\n-F OURS\nCOMMIT\n")
			Expect(ours()).To(BeEmpty(), "what was read ahead is read once")
		}))

		It("reads one chain ("+f.program+")", inNamespace(func(ctx SpecContext) {
			r := f.reader()
			Expect(r.ReadChain(ctx, "nat", "OURS")).To(BeNil(), "there is no table")
			f.restore("*nat\n:OURS - [0:0]\n:EMPTY - [0:0]\n-A OURS -j EMPTY\n-I OUTPUT -m limit --limit 1/sec -j OURS\nCOMMIT\n")
			Expect(r.ReadChain(ctx, "nat", "OURS")).To(Equal([]string{" -j EMPTY"}))
			Expect(r.ReadChain(ctx, "nat", "EMPTY")).To(And(BeEmpty(), Not(BeNil())))
			Expect(r.ReadChain(ctx, "nat", "GONE")).To(BeNil())
		}))

		It("gives rules of others that it does not know a text of their own, and refuses where chains of the prefix are concerned ("+f.program+")",
			inNamespace(func(ctx SpecContext) {
				strange := []string{
					" -p tcp -m multiport --dports 80,443 -j ACCEPT", " -p tcp -m multiport --dports 80,444 -j ACCEPT",
					" -m limit --limit 1/sec -j ACCEPT", " -p icmp -j ACCEPT", ` -j LOG --log-prefix "-j SPROXY-A"`, " -p tcp -m tcp --sport 80 -j ACCEPT",
					" -p tcp -m tcp ! --dport 80 -j ACCEPT", " -m conntrack --ctorigdstport 53 -j ACCEPT", " -m comment --comment known -j ACCEPT",
				}
				if f.ipv6 {
					strange[3] = " -p ipv6-icmp -j ACCEPT"
				}
				f.restore("*filter\n:SPROXY-A - [0:0]\n:OTHERS - [0:0]\n-A SPROXY-A -j RETURN\n-A OTHERS" + strings.Join(strange, "\n-A OTHERS") + "\nCOMMIT\n")
				r := f.reader()
				r.Prefix = "SPROXY"
				read := func() []string {
					GinkgoHelper()
					rules, err := r.Read(ctx)
					Expect(err).NotTo(HaveOccurred())
					Expect(rules["filter"]["SPROXY-A"]).To(Equal([]string{" -j RETURN"}))
					return rules["filter"]["OTHERS"]
				}
				first := read()
				Expect(first).To(HaveLen(len(strange)))
				Expect(slices.Compact(slices.Sorted(slices.Values(first)))).To(HaveLen(len(strange)), "no two are the same")
				Expect(first[len(first)-1]).To(Equal(" -m comment --comment known -j ACCEPT"))
				Expect(first[0]).To(MatchRegexp("^ # [0-9a-f]{16}$"))
				Expect(read()).To(Equal(first))

				for _, rule := range strange[:len(strange)-1] {
					for _, concerned := range []string{"SPROXY-A" + rule, "OTHERS" + strings.Split(rule, " -j ")[0] + " -j SPROXY-A"} {
						if strings.HasPrefix(concerned, "OTHERS -j") {
							continue // which is known
						}
						f.restore("*filter\n-A " + concerned + "\nCOMMIT\n")
						_, err := r.Read(ctx)
						Expect(err).To(MatchError(nft.ErrUnknown), concerned)
						f.restore("*filter\n-D " + concerned + "\nCOMMIT\n")
					}
				}
				Expect(read()).To(Equal(first))
			}))

		It("reads many rules ("+f.program+")", inNamespace(func(ctx SpecContext) {
			const chains, each = 2_000, 5
			t := begin(ctx, f.ipv6)
			t.Table("nat")
			want := map[string][]string{}
			for i := range chains {
				name := fmt.Sprintf("C%d", i)
				t.Chain("nat", name)
				for n := range each {
					rule := fmt.Sprintf(` -p tcp -m tcp --dport %d -m comment --comment "a Service" -j RETURN`, i*each+n+1)
					Expect(t.Append("nat", name, rule)).To(Succeed())
					want[name] = append(want[name], rule)
				}
			}
			Expect(t.Commit(ctx)).To(Succeed())
			Expect(f.reader().Read(ctx)).To(Equal(nft.Rules{"nat": want}))
		}))
	}
})
