package xtables

import (
	"strings"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

// FuzzSave reads tables that no iptables-save would print.
func FuzzSave(f *testing.F) {
	f.Add("*nat\n:PREROUTING ACCEPT [0:0]\n:SPROXY-SERVICES - [0:0]\n-A PREROUTING -m comment --comment \"a b\" -j SPROXY-SERVICES\nCOMMIT\n")
	f.Add("-A\n-A \n:\n*\n: [\n#\n\r\n\x00")
	f.Add("*nat\n-A SPROXY-A\n-A SPROXY-A -j\n*nat\n:SPROXY-B")
	f.Fuzz(func(t *testing.T, text string) {
		for name, dump := range parseSave([]byte(text)) {
			table := NewTable(name, "SPROXY-")
			table.Found(dump)
			if different := table.Differences(dump); len(different) > 0 {
				t.Errorf("table %q differs from itself: %q", name, different)
			}
			for chain, rules := range dump {
				for _, rule := range rules {
					_ = jumpsTo("SPROXY-", rule)
					if strings.Contains(rule, "\n") {
						t.Errorf("chain %q of table %q has a rule of two lines: %q", chain, name, rule)
					}
				}
			}
		}
	})
}

// FuzzQuote writes names into rules that try to get out of their quotation marks: iptables-restore has to read one word.
func FuzzQuote(f *testing.F) {
	for _, text := range []string{
		"", "web", "default/web:http cluster IP", `a" -j ACCEPT -m comment --comment "b`, `a\`, `a\" -j ACCEPT`,
		"a\nCOMMIT\n*filter\n-F INPUT\nCOMMIT", "a\r\x00b", "'a' -j ACCEPT", "\xff\" ", "-j", "ä ö",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quoted := nft.Quote(text)
		if strings.ContainsAny(quoted, "\n\r\x00") {
			t.Fatalf("%q is written as %q, which ends the line", text, quoted)
		}
		words := restoreWords(" -m comment --comment " + quoted + " -j RETURN")
		if len(words) != 6 || words[2] != "--comment" || words[4] != "-j" || words[5] != "RETURN" {
			t.Errorf("%q is written as %q, and the rule is read as %q", text, quoted, words)
		}
	})
}

// restoreWords takes a line apart as iptables-restore does: words end at white space outside quotation marks, a backslash
// there takes away the meaning of what follows, and the line ends at a zero or a line feed.
func restoreWords(line string) []string {
	var words []string
	var word strings.Builder
	open, quoted := byte(0), false
	end := func() {
		if word.Len() > 0 || quoted {
			words = append(words, word.String())
		}
		word.Reset()
		quoted = false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\n' || c == 0:
			end()
			return words
		case open != 0 && c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case open != 0 && c == open:
			open = 0
		case open == 0 && (c == '"' || c == '\''):
			open, quoted = c, true
		case open == 0 && (c == ' ' || c == '\t'):
			end()
		default:
			word.WriteByte(c)
		}
	}
	end()
	return words
}
