// Package xtables reads and writes chains of iptables by the programs that a node has (iptables(8), iptables-save(8),
// iptables-restore(8)), for whoever owns the chains whose names begin with a prefix.
//
// A Table holds what the kernel has of one owner's chains in one table of one family, and what it is to have; only what
// differs is written, in one transaction. Rules are in the words of iptables-save, so that what was written and what is
// read back can be compared as text. The rules that mean the same in every mode are in rules.go.
package xtables
