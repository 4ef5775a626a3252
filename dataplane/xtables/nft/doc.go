// Package nft writes rules to the tables that iptables-nft shows, without starting a program: it speaks netlink to nf_tables
// and makes of a rule exactly what iptables-nft makes of it, so that iptables lists, compares and deletes it like one of its
// own.
//
// It knows the matches and targets that rules of ours use and nothing more. A rule that it does not know is an error that
// wraps ErrUnknown; the programs know it.
package nft
