package nft

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
)

// FuzzDecode reads rules that nobody would write: what is put into words is written again as what it was read from, or at least
// read again in the same words.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, append([]byte{noteComment, 200}, strings.Repeat("\xff", 200)...), false)
	for _, ipv6 := range []bool{false, true} {
		for _, rule := range []string{
			" -d 10.0.0.0/9 -i eth0 -p tcp -m tcp --dport 80 -m comment --comment \"a b\" -j DNAT --to-destination 192.0.2.1:80",
			" ! -s fd00::/61 -o veth+ -p udp -m udp --dport 16:31 -m statistic --mode random --probability 0.25000000000 -g THERE",
			" -p sctp -m comment --comment x -m sctp --dport 80 -m addrtype --dst-type LOCAL -j RETURN",
			" -m mark ! --mark 0x4000/0x4000 -m conntrack ! --ctstate RELATED,ESTABLISHED -j MARK --set-xmark 0x4000/0x4000",
			" -m bpf --bytecode \"1,6 0 0 65535\" -j MASQUERADE --random-fully", " -p tcp -j REJECT --reject-with tcp-reset",
			" -m set ! --match-set S7 src -j SET --add-set S7 src --exist --timeout 60",
			" -m recent --update --seconds 60 --reap --name N --mask 255.255.255.255 --rsource -j ACCEPT",
		} {
			if expressions, note, err := encoded(rule, ipv6); err == nil {
				f.Add(expressions, note, ipv6)
			}
		}
	}
	f.Fuzz(func(t *testing.T, expressions, note []byte, ipv6 bool) {
		rule, err := decoderOf(ipv6).decode(expressions, note)
		if err != nil {
			return
		}
		words := rule.words()
		if strings.ContainsAny(words, "\n\r\x00") {
			t.Fatalf("%q is more than one line", words)
		}
		expressions, note, err = encoded(words, ipv6)
		if err != nil {
			t.Fatalf("%q cannot be written: %v", words, err)
		}
		if again, err := decoderOf(ipv6).decode(expressions, note); err != nil || again.words() != words {
			t.Errorf("%q is read again as %q, %v", words, again.words(), err)
		}
	})
}

// encoderOf knows every set, by a name that has its number.
func encoderOf(ipv6 bool) encoder {
	return encoder{ipv6: ipv6, index: func(set string) (index uint16, err error) {
		_, err = fmt.Sscanf(set, "S%d", &index)
		return index, err
	}}
}

func decoderOf(ipv6 bool) decoder {
	return decoder{encoderOf(ipv6), func(index uint16) (string, error) { return fmt.Sprintf("S%d", index), nil }}
}

func encoded(rule string, ipv6 bool) (expressions, note []byte, err error) {
	var a netlink.Attributes
	err = encoderOf(ipv6).encode(rule, &a)
	netlink.Each(a, func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_RULE_EXPRESSIONS:
			expressions = value
		case unix.NFTA_RULE_USERDATA:
			note = value
		}
	})
	return expressions, note, err
}
