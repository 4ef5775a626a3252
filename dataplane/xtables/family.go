package xtables

import (
	"fmt"
	"strings"
)

// Family is what differs between iptables and ip6tables.
type Family struct {
	// IPv6 tells the two apart.
	IPv6 bool
	// unreachable is the answer of ICMP that tells a client that nobody listens.
	unreachable string
	// hairpin is classic BPF that accepts a packet whose source is its destination (bpf(4); the match sees the packet
	// from its IP header on).
	hairpin string
	// Loopback is the network of the loopback interface.
	Loopback string
}

func families() []Family { return []Family{ipv4(), ipv6()} }

func ipv4() Family {
	return Family{
		unreachable: " -j REJECT --reject-with icmp-port-unreachable",
		// ld [12]; tax; ld [16]; jne x, fail; ret 65535; ret 0
		hairpin:  "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0",
		Loopback: "127.0.0.0/8",
	}
}

func ipv6() Family {
	return Family{
		IPv6:        true,
		unreachable: " -j REJECT --reject-with icmp6-port-unreachable",
		hairpin:     hairpinIPv6(),
		Loopback:    "::1/128",
	}
}

// hairpinIPv6 compares the four words of the source address (offset 8) with those of the destination (offset 24).
func hairpinIPv6() string {
	const words = 4
	var code []string
	for i := range words {
		// ld [src]; tax; ld [dst]; jne x, fail
		toFail := 4*(words-1-i) + 1
		code = append(code, fmt.Sprintf("32 0 0 %d", 8+4*i), "7 0 0 0", fmt.Sprintf("32 0 0 %d", 24+4*i),
			fmt.Sprintf("29 0 %d 0", toFail))
	}
	code = append(code, "6 0 0 65535", "6 0 0 0")
	return fmt.Sprintf("%d,%s", len(code), strings.Join(code, ","))
}
