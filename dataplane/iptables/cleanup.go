package iptables

import (
	"context"
	"errors"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Cleanup removes every jump, chain and set that this package ever made, with both backends, and nothing else.
func Cleanup(ctx context.Context) error {
	errs := []error{xtables.Cleanup(ctx, prefix, tables()...)}
	for _, ipv6 := range []bool{false, true} {
		errs = append(errs, newSets(ipv6).clear())
	}
	return errors.Join(errs...)
}

// tables are those with chains of ours, in the order in which they are to lose them: without its rules table filter
// rejects nothing, and translation goes on until the last moment.
func tables() []string { return []string{"filter", "nat"} }
