package chaos

import (
	"fmt"
	"os"
	"strconv"
)

// Drawn is what a run is to be: $CHAOS_SEED, 1 where it is not set, and $CHAOS_STEPS, or as many as a short run has.
func Drawn(short int) (seed uint64, steps int, err error) {
	seed, steps = 1, short
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("reading $CHAOS_SEED: %w", err)
		}
	}
	if text := os.Getenv("CHAOS_STEPS"); text != "" {
		if steps, err = strconv.Atoi(text); err != nil {
			return 0, 0, fmt.Errorf("reading $CHAOS_STEPS: %w", err)
		}
	}
	return seed, steps, nil
}
