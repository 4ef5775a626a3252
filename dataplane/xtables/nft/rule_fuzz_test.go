package nft_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables/nft"
)

// FuzzRule writes rules that nobody would write: each is encoded or refused.
func FuzzRule(f *testing.F) {
	for _, rule := range []string{
		` ! -s 192.0.2.0/25 -d 192.0.2.1/32 -i lo -p tcp -m tcp --dport 80 -m comment --comment "a b" -j DNAT --to-destination 192.0.2.1:80`,
		" -m mark ! --mark 0x4000/0x4000 -m conntrack ! --ctstate RELATED,ESTABLISHED -j MARK --set-xmark 0x4000/0x4000",
		` -m bpf --bytecode "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0" -j MASQUERADE --random-fully`,
		" -m set --match-set S src -j SET --add-set S src --exist --timeout 60",
		" -m statistic --mode random --probability 0.5 -g CHAIN", ` -m comment --comment "`, " -j", " ! -m", " -d ::/129",
		` -m bpf --bytecode "99999999999,1" -j RETURN`, " -m udp --dport 2:1", " -j DNAT --to-destination [::1",
	} {
		f.Add(rule, true)
		f.Add(rule, false)
	}
	f.Fuzz(func(t *testing.T, rule string, ipv6 bool) {
		var writer nft.Writer
		defer func() { _ = writer.Close() }() // whatever it had open
		transaction := writer.Begin(t.Context(), ipv6)
		err := transaction.Append("nat", "CHAIN", rule)
		if err != nil && !errors.Is(err, nft.ErrUnknown) && !errors.Is(err, unix.ENOENT) { // there is no such set
			t.Errorf("rule %q: %v", rule, err)
		}
	})
}
