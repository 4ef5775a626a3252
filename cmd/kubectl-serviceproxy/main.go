// kubectl-serviceproxy is kubectl serviceproxy: it shows what the pools and nodes of service-proxy-operator do and why, and
// steers them. It talks to the API server with the rights of whoever runs it, and keeps nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	err := newRootCommand(streams).ExecuteContext(ctx)
	stop()
	os.Exit(exitStatus(streams, err))
}

// exitStatus tells of an error, unless it is a verdict that the command has explained itself.
func exitStatus(streams genericiooptions.IOStreams, err error) int {
	var verdict output.Verdict
	switch {
	case err == nil:
		return 0
	case errors.As(err, &verdict):
		return int(verdict)
	default:
		_, _ = fmt.Fprintln(streams.ErrOut, "error:", err)
		return int(output.Failed)
	}
}
