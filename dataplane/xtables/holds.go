package xtables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// Holds says whether the kernel holds a chain, in any table and family, whose name begins with a prefix.
func (t *Tools) Holds(ctx context.Context, prefix string) (bool, error) {
	for _, programs := range t.Families {
		held, err := programs.holds(ctx, prefix)
		if held || err != nil {
			return held, err
		}
	}
	return false, nil
}

func (t *Programs) holds(ctx context.Context, prefix string) (bool, error) {
	chains, err := t.chains(ctx)
	return slices.ContainsFunc(chains, func(chain string) bool { return strings.HasPrefix(chain, prefix) }), err
}

// chains are the names of the chains of every table. nf_tables lists them without their rules, which is most of what there is
// to list, and without a program; legacy tables have to be read as a whole.
func (t *Programs) chains(ctx context.Context) ([]string, error) {
	if t.backend == NFT {
		return t.nftChains(func(string) bool { return true })
	}
	var names []string
	dumps, err := t.Read(ctx)
	for _, dump := range dumps {
		for chain := range dump {
			names = append(names, chain)
		}
	}
	return names, err
}

// nftChains are the names of the chains of some tables of nf_tables.
func (f Family) nftChains(of func(table string) bool) ([]string, error) {
	family := nftables.TableFamilyIPv4
	if f.IPv6 {
		family = nftables.TableFamilyIPv6
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("opening nf_tables: %w", err)
	}
	chains, err := conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("listing chains of nf_tables: %w", err)
	}
	var names []string
	for _, c := range chains {
		if of(c.Table.Name) {
			names = append(names, c.Name)
		}
	}
	return names, nil
}
