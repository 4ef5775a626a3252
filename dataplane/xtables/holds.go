package xtables

import (
	"context"
	"strings"
)

// Holds says whether the kernel holds a chain, in any table and family, whose name begins with a prefix.
func (t *Tools) Holds(ctx context.Context, prefix string) (bool, error) {
	for _, programs := range t.Families {
		dumps, err := programs.Read(ctx)
		if err != nil {
			return false, err
		}
		for _, dump := range dumps {
			for chain := range dump {
				if strings.HasPrefix(chain, prefix) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}
