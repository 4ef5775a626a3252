package nft

import (
	"fmt"
	"strings"
	"unicode"
)

// rule is a rule in the words of iptables-save, taken apart.
type rule struct {
	// header asks for addresses, interfaces and the protocol.
	header  []option
	matches []extension
	// target is a verdict, a target or a chain; none where its name is empty. goes says that a chain does not return.
	target extension
	goes   bool
}

// extension is a match or a target and what is asked of it.
type extension struct {
	name    string
	options []option
}

// option is an option and its values, as in "! --mark 0x1/0x1".
type option struct {
	name   string
	not    bool
	values []string
}

// is says whether the option is one of that name with that many values, and not turned around.
func (o option) is(name string, values int) bool {
	return o.name == name && len(o.values) == values && !o.not
}

func (o option) String() string {
	text := strings.Join(append([]string{o.name}, o.values...), " ")
	if o.not {
		return "! " + text
	}
	return text
}

// parse takes a rule apart. Which names and values there may be is not its business.
func parse(text string) (rule, error) {
	var r rule
	options := &r.header
	not := false
	for w, rest, ok := nextWord(text); ok; w, rest, ok = nextWord(rest) {
		isOption := !w.quoted && strings.HasPrefix(w.text, "-")
		switch {
		case !w.quoted && w.text == "!":
			not = true
			continue
		case !w.quoted && (w.text == "-m" || w.text == "-j" || w.text == "-g"):
			var name word
			if name, rest, ok = nextWord(rest); !ok || not || r.target.name != "" {
				return r, fmt.Errorf("%w: %s is not where it should be", ErrUnknown, w.text)
			}
			if w.text == "-m" {
				r.matches = append(r.matches, extension{name: name.text})
				options = &r.matches[len(r.matches)-1].options
			} else {
				r.target, r.goes = extension{name: name.text}, w.text == "-g"
				options = &r.target.options
			}
		case isOption:
			*options = append(*options, option{name: w.text, not: not})
		case not || len(*options) == 0:
			return r, fmt.Errorf("%w: %q is not where it should be", ErrUnknown, w.text)
		default:
			last := &(*options)[len(*options)-1]
			last.values = append(last.values, w.text)
		}
		not = false
	}
	if not {
		return r, fmt.Errorf("%w: nothing is turned around", ErrUnknown)
	}
	return r, nil
}

type word struct {
	text   string
	quoted bool
}

// nextWord takes a word off a text, without the quotation marks and backslashes that iptables-save puts in.
func nextWord(text string) (w word, rest string, ok bool) {
	text = strings.TrimLeft(text, " ")
	if text == "" {
		return word{}, "", false
	}
	if text[0] != '"' {
		plain, rest, _ := strings.Cut(text, " ")
		return word{text: plain}, rest, true
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return word{text: b.String(), quoted: true}, text[i+1:], true
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return word{text: b.String(), quoted: true}, "", true
}

// Quote writes a string as iptables-save does, in quotation marks unless it is a plain word, and always in one line.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '\\', r == '"', r == '\'':
			b.WriteByte('\\')
		case unicode.IsControl(r):
			r = ' ' // a line feed or a zero would end the line
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}
