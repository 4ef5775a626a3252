package ipvs

import (
	"context"
	"fmt"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipset"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Holds says whether the kernel holds anything that this package ever made: rules or sets, without which no virtual server
// gets a connection.
func Holds(ctx context.Context, t *xtables.Tools) (bool, error) {
	held, err := t.Holds(ctx, prefix)
	if err != nil {
		return false, fmt.Errorf("looking for rules of mode IPVS: %w", err)
	}
	if held {
		return true, nil
	}
	sets, err := ipset.Names(prefix)
	if err != nil {
		return false, fmt.Errorf("looking for sets of mode IPVS: %w", err)
	}
	return len(sets) > 0, nil
}
