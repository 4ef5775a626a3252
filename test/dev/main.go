// The dev cluster is the cluster of the demo, left running in the background for whoever wants to try things.
//
//	dev                            start it, and say how to use it
//	dev ask HOST IP:PORT [udp]     open a connection from a node, a pod or "outside", and say which pod answers
//	dev exec HOST -- COMMAND       run a command on a node, in a pod or "outside"
//	dev hosts                      list them
//	dev down                       end it
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	var exited *exec.ExitError
	switch {
	case errors.As(err, &exited):
		os.Exit(max(exited.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, "dev:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	place := newPlace(".")
	root := &cobra.Command{
		Use: "dev", Short: "Start the dev cluster", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), place) },
	}
	root.AddCommand(
		&cobra.Command{
			Use: "down", Short: "End the dev cluster", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return down(cmd.Context(), place) },
		},
		&cobra.Command{
			Use: "hosts", Short: "List nodes, pods and the client outside", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return hosts(cmd.Context(), place) },
		},
		&cobra.Command{
			Use: "ask HOST IP:PORT [udp]", Short: "Ask from a host which pod answers at an address", Args: cobra.RangeArgs(2, 3),
			RunE: func(cmd *cobra.Command, args []string) error {
				return ask(cmd.Context(), place, args[0], args[1], append(args[2:], "tcp")[0])
			},
		},
		&cobra.Command{
			Use: "exec HOST -- COMMAND...", Short: "Run a command in the network of a host", Args: cobra.MinimumNArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), place, args[0], args[1:]) },
		},
		&cobra.Command{
			Use: serveCommand, Hidden: true, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), place) },
		},
	)
	return root
}
