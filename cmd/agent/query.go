package main

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/serviceproxy/service-proxy-operator/dataplane/agent"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
)

// socketOf is where an agent answers questions.
func socketOf(socket, stateDir string) string {
	if socket != "" {
		return socket
	}
	return agent.QuerySocket(stateDir)
}

// queries asks the agent that runs on this node, from inside its container or as root of the node. Answers are JSON.
func queries(socket, stateDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Ask the agent of this node what it does",
		Long: "Ask the agent that runs on this node, by its socket, what it does for a Service or with a packet. Answers are JSON.\n" +
			"kubectl serviceproxy trace and explain --agents ask the same, of any node.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	client := func() *query.Client { return query.NewClient(socketOf(*socket, *stateDir)) }

	service := &cobra.Command{
		Use: "service NAMESPACE/NAME", Short: "What this node does for a Service", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show[query.Service](cmd, client(), "service", url.Values{"name": {args[0]}})
		},
	}

	var protocol string
	var pod bool
	trace := &cobra.Command{
		Use: "trace FROM ADDRESS:PORT", Short: "What becomes of a packet on this node, and why", Args: cobra.ExactArgs(2),
		Long: "What becomes of the first packet of a connection on this node, and why. FROM is an address, or \"node\" for the node itself.",
		RunE: func(cmd *cobra.Command, args []string) error {
			values := url.Values{"from": {args[0]}, "to": {args[1]}, "protocol": {protocol}}
			if pod {
				values.Set("pod", "true")
			}
			return show[query.Trace](cmd, client(), "trace", values)
		},
	}
	trace.Flags().BoolVar(&pod, "pod", false, "FROM is a pod on this node, which matters where pods are told by their interface")

	kernel := &cobra.Command{
		Use: "kernel ADDRESS:PORT", Short: "What the kernel holds for an address, and whether it is what it should be", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show[query.Kernel](cmd, client(), "kernel", url.Values{"to": {args[0]}, "protocol": {protocol}})
		},
	}
	for _, c := range []*cobra.Command{trace, kernel} {
		c.Flags().StringVar(&protocol, "protocol", "tcp", "protocol of the packet: tcp, udp, sctp")
	}
	cmd.AddCommand(service, trace, kernel)
	return cmd
}

func show[T any](cmd *cobra.Command, client *query.Client, question string, values url.Values) error {
	answer, err := query.Ask[T](cmd.Context(), client, question, values)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), string(text))
	return err
}
