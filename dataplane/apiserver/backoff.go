package apiserver

import (
	"math"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Backoff is how long a reflector waits between attempts while the API server is away: at most 10 seconds, where client-go
// waits up to a minute, so that a node follows within seconds of its return. The pauses are drawn at random, so that nodes
// which lost it together do not return together.
func Backoff() *wait.Backoff {
	return &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 1, Cap: 5 * time.Second, Steps: math.MaxInt32}
}
