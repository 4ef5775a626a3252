package iptables

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables/dispatch"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
	"github.com/serviceproxy/service-proxy-operator/test/conformance/scenario"
)

// comment is one in quotation marks, and plain what a rule has outside them.
var (
	comment = regexp.MustCompile(`"([^"\\]|\\.)*"`)
	plain   = regexp.MustCompile(`^[A-Za-z0-9 _.,:/!+*%\[\]-]*$`)
)

// FuzzRender renders Services of random kinds under any names: every rule is one line, and nothing of a name is in it
// outside quotation marks.
func FuzzRender(f *testing.F) {
	f.Add(uint64(1), "default", "web", "http")
	f.Add(uint64(2), "a\nb", `" -j ACCEPT -m comment --comment "`, `\`)
	f.Add(uint64(3), `'; -j ACCEPT`, "COMMIT\n*filter\n-F INPUT\nCOMMIT\n", "\x00\r\xff")
	f.Fuzz(func(t *testing.T, seed uint64, namespace, name, port string) {
		settings := scenario.Defaults()
		r := rand.New(rand.NewPCG(seed, 0))
		s, err := scenario.ParseService(scenario.RandomService(r, r.IntN(200)))
		if err != nil {
			t.Fatal(err)
		}
		s.Name = types.NamespacedName{Namespace: atMost(63, namespace), Name: atMost(63, name)}
		old := s.Ports[0].Name
		s.Ports[0].Name = atMost(63, port)
		for _, slice := range s.Slices {
			for i := range slice.Ports {
				if slice.Ports[i].Name == old {
					slice.Ports[i].Name = s.Ports[0].Name
				}
			}
		}
		for _, matches := range []bool{true, false} {
			e := newEngine(&xtables.Programs{MatchesHairpins: matches, MatchesSets: matches}, Settings{
				MarkBit: 14, MasqueradeAll: r.IntN(2) == 0, PodCIDRs: settings.PodCIDRs,
				ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")},
			})
			ports, _ := forwarding.Compute(&s.Service, s.Slices, settings.Node())
			for _, change := range forwarding.NewTable().Update(s.Name, 1, ports) {
				e.note(change)
				e.renderAll()
				for _, rule := range rulesOf(e, change.New) {
					if !plain.MatchString(comment.ReplaceAllString(rule, "")) || strings.ContainsAny(rule, "\n\r\x00") {
						t.Errorf("a rule says more than it should: %q", rule)
					}
				}
			}
		}
	})
}

func atMost(n int, text string) string { return text[:min(n, len(text))] }

// rulesOf are the rules of a Service port, in its own chains and in those of the trees.
func rulesOf(e *engine, p *forwarding.ServicePort) []string {
	var rules []string
	if p == nil || p.ID.IPv6 {
		return nil
	}
	for _, c := range e.render.chains(p) {
		rules = append(rules, c.Name)
		rules = append(rules, c.Rules...)
	}
	for i := range p.Frontends {
		at := frontend{p, &p.Frontends[i]}
		for _, tree := range e.treesOf(at.Frontend) {
			match := e.render.match(dispatch.KeyOf(at.Key), tree.addressNibbles, p.ID.String()+" "+at.Kind.String())
			rules = append(rules, tree.rules(at, match)...)
		}
	}
	return rules
}
