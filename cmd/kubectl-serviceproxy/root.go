package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/explain"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/handover"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/render"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/status"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/steer"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/trace"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/why"
)

const about = `See what service-proxy-operator does on the nodes of a cluster and why, and steer it.

A pool is a ServiceProxyConfig: the nodes that it selects, and how Services are programmed there.

Exit status: 0 if all is well, 1 if it is not, 2 if a command could not do what it was asked.`

// newRootCommand puts kubectl serviceproxy together. A command is a function of the factory, by which it reaches the
// cluster, and of the streams that it reads and writes.
func newRootCommand(streams genericiooptions.IOStreams) *cobra.Command {
	factory := access.NewFactory()
	root := &cobra.Command{
		Use:           "kubectl-serviceproxy",
		Short:         "See what service-proxy-operator does, and steer it",
		Long:          about,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl serviceproxy"},
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w\nsee %s --help", err, cmd.CommandPath())
	})
	factory.AddFlags(root.PersistentFlags())

	add(root, "see", "See:",
		status.NewStatusCommand(factory, streams),
		why.NewWhyCommand(factory, streams),
		explain.NewExplainCommand(factory, streams),
		trace.NewTraceCommand(factory, streams),
		render.NewDiffCommand(factory, streams),
		render.NewRenderCommand(factory, streams),
	)
	add(root, "steer", "Steer:",
		steer.NewPauseCommand(factory, streams),
		steer.NewResumeCommand(factory, streams),
		steer.NewRetryCommand(factory, streams),
		steer.NewRollbackCommand(factory, streams),
		handover.NewHandoverCommand(factory, streams),
	)
	return root
}

// add adds commands under one heading of the help.
func add(root *cobra.Command, id, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: id, Title: title})
	for _, command := range commands {
		command.GroupID = id
	}
	root.AddCommand(commands...)
}
