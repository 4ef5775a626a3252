package drift

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/netlink"
	"github.com/serviceproxy/service-proxy-operator/dataplane/routes"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// sizeofGeneration is struct nfgenmsg, which comes before the attributes in notices of nf_tables.
const sizeofGeneration = 4

// Attributes that golang.org/x/sys does not have (enum nft_gen_attributes in linux/netfilter/nf_tables.h).
const attrProgram = 3

// messages visits what is in a datagram: type and sender of each message, and what follows struct nlmsghdr.
func messages(datagram []byte, visit func(kind uint16, sender uint32, body []byte)) {
	for rest := datagram; len(rest) >= unix.SizeofNlMsghdr; {
		length := int(binary.NativeEndian.Uint32(rest))
		if length < unix.SizeofNlMsghdr || length > len(rest) {
			return
		}
		visit(binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint32(rest[12:]), rest[unix.SizeofNlMsghdr:length])
		rest = rest[min((length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(rest)):]
	}
}

// rules takes notices of nf_tables. Those of one transaction come together, and one of a new generation ends them.
func (s *source) rules(w *Watcher, datagram []byte) {
	messages(datagram, func(kind uint16, sender uint32, body []byte) {
		if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || len(body) < sizeofGeneration {
			return
		}
		kind &= 0xff
		if kind == unix.NFT_MSG_NEWGEN {
			netlink.Each(body[sizeofGeneration:], func(kind uint16, value []byte) {
				if kind == attrProgram {
					s.open.program = netlink.Text(value)
				}
			})
			w.heard(s.open)
			s.open = transaction{}
			return
		}
		if suspect, ours := touched(kind, body, w.prefix); ours {
			s.open.family, s.open.writer = body[0], sender
			s.open.touched = note(s.open.touched, suspect)
		}
	})
}

// touched says what of ours a notice of nf_tables is about, and whether it is about us at all: a rule that somebody adds before
// or behind ours is not. The kernel does not say what a rule that was deleted had been.
func touched(kind uint16, body []byte, prefix string) (Suspect, bool) {
	family := map[uint8]string{unix.AF_INET: "IPv4", unix.AF_INET6: "IPv6"}[body[0]]
	if family == "" {
		return Suspect{}, false
	}
	var names [4]string
	netlink.Each(body[sizeofGeneration:], func(kind uint16, value []byte) {
		if int(kind) < len(names) {
			names[kind] = netlink.Text(value)
		}
	})
	table := names[unix.NFTA_TABLE_NAME] // the first attribute of chains and rules too
	if !slices.Contains([]string{"nat", "filter", "mangle"}, table) {
		return Suspect{}, false
	}
	chain := names[unix.NFTA_CHAIN_NAME]
	if kind == unix.NFT_MSG_NEWRULE || kind == unix.NFT_MSG_DELRULE {
		chain = names[unix.NFTA_RULE_CHAIN]
	}
	ours := strings.HasPrefix(chain, prefix)
	builtIn := slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, chain)
	concerns := false
	switch kind {
	case unix.NFT_MSG_DELTABLE:
		return Suspect{What: fmt.Sprintf("table %s of %s", table, family)}, true
	case unix.NFT_MSG_NEWCHAIN:
		concerns = ours
	case unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
		concerns = ours || builtIn
	case unix.NFT_MSG_NEWRULE:
		concerns = ours || builtIn && bytes.Contains(body, []byte(prefix))
	}
	if !concerns || xtables.IsTrial(chain) {
		return Suspect{}, false
	}
	return Suspect{
		Place: xtables.Place{IPv6: body[0] == unix.AF_INET6, Table: table, Chain: chain},
		What:  fmt.Sprintf("chain %s in table %s of %s", chain, table, family),
	}, true
}

// takeRoutes takes notices of routes. Ours are told by their protocol number.
func takeRoutes(w *Watcher, datagram []byte) {
	messages(datagram, func(kind uint16, _ uint32, body []byte) {
		const protocol = 5 // rtm_protocol in struct rtmsg
		if kind != unix.RTM_NEWROUTE && kind != unix.RTM_DELROUTE || len(body) < unix.SizeofRtMsg || body[protocol] != routes.Protocol {
			return
		}
		if w.own {
			return
		}
		what := "a route"
		netlink.Each(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
			if addr, ok := netip.AddrFromSlice(value); ok && kind == unix.RTA_DST {
				what = "route " + netip.PrefixFrom(addr, int(body[1])).String()
			}
		})
		w.suspect(transaction{touched: []Suspect{{What: what}}})
	})
}
