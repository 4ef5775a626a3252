package ipvs

import (
	"context"
	"errors"

	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Probe says whether this node can run the mode with a scheduler, and what is missing otherwise. It has the kernel load the
// modules that it needs and changes nothing else.
func Probe(ctx context.Context, t *xtables.Tools, scheduler string) error {
	if err := virtualserver.Probe(ctx, scheduler); err != nil {
		return err
	}
	for _, programs := range t.Families {
		switch {
		case !programs.MatchesSets:
			return errors.New("rules of this kernel cannot match sets; load the modules ip_set and xt_set")
		case !programs.MatchesHairpins:
			return errors.New("rules of this kernel cannot recognise a pod that reaches itself; load the module xt_bpf")
		}
	}
	return nil
}
