package iptables

import (
	"context"
	"fmt"

	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Holds says whether the kernel holds anything that this package ever made with these tools.
func Holds(ctx context.Context, t *xtables.Tools) (bool, error) {
	held, err := t.Holds(ctx, prefix)
	if err != nil {
		return false, fmt.Errorf("looking for rules of mode iptables: %w", err)
	}
	return held, nil
}
