package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
	decision "github.com/serviceproxy/service-proxy-operator/dataplane/trace"
)

const about = `Show what becomes of the first packet of a connection, step by step, on the node where it is decided about.

FROM is the name of a pod, node/NAME, an address, or "outside". TO is the name of a Service, or ADDRESS:PORT. A Service is
taken at the address where FROM would reach it: at its cluster IP from inside, and from outside at the address of its load
balancer, an external IP or a node port.

The agent of the node answers, from the table that it programs from, and compares that with what it reads back from the
kernel. It is reached as kubectl exec reaches it, so you need the right to create pods/exec in the namespace of the agents.

Exit status: 0 if the packet goes where it should, 1 if it is rejected or dropped, or if the kernel does not hold what it
should, 2 if that could not be found out.`

const examples = `  # From a pod to a Service of its namespace
  kubectl serviceproxy trace -n shop cart-5d8f web:80
  # From an address outside to a node port
  kubectl serviceproxy trace 203.0.113.7 192.0.2.10:30080
  # From outside to a Service, through one node
  kubectl serviceproxy trace -n shop outside web --node worker-1`

// NewTraceCommand returns the command trace.
func NewTraceCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var format output.Format
	var protocol, node string
	cmd := &cobra.Command{
		Use:     "trace FROM TO[:PORT]",
		Short:   "Show what becomes of a packet, step by step",
		Long:    about,
		Example: examples,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := f.Client()
			if err != nil {
				return err
			}
			namespace, err := f.Namespace()
			if err != nil {
				return err
			}
			r := &resolver{api: api, namespace: namespace}
			packet, err := r.route(cmd.Context(), args[0], args[1], protocol, node)
			if err != nil {
				return err
			}
			answer, err := ask(cmd.Context(), f, api, packet)
			if err != nil {
				return err
			}
			if err := show(answer, format, streams); err != nil {
				return err
			}
			if !isWell(answer) {
				return output.NotWell
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&protocol, "protocol", "", "protocol of the packet, tcp, udp or sctp; that of the port of the Service when empty, or else tcp")
	cmd.Flags().StringVar(&node, "node", "", "node that a packet from outside comes by")
	format.AddFlag(cmd, output.Text)
	return cmd
}

// ask has the agent of a node answer.
func ask(ctx context.Context, f *access.Factory, api client.Reader, p route) (answer query.Trace, err error) {
	pod, err := f.AgentPod(ctx, api, p.node)
	if err != nil {
		return answer, err
	}
	command := []string{"/agent", "query", "trace", p.from, p.to.String(), "--protocol=" + p.protocol}
	if p.pod {
		command = append(command, "--pod")
	}
	var out, errOut bytes.Buffer
	if err := f.Exec(ctx, pod, &out, &errOut, command...); err != nil {
		if said := strings.TrimSpace(errOut.String()); said != "" {
			err = errors.Join(err, errors.New(said))
		}
		return answer, fmt.Errorf("asking the agent of node %s: %w", p.node, err)
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return answer, fmt.Errorf("reading what the agent of node %s says: %w", p.node, err)
	}
	return answer, nil
}

// isWell tells whether a packet goes where it should.
func isWell(t query.Trace) bool {
	return (t.Verdict == decision.Forward || t.Verdict == decision.Untouched) && (t.Kernel == nil || t.Kernel.Equal)
}

func show(t query.Trace, format output.Format, streams genericiooptions.IOStreams) error {
	if format.IsForPrograms() {
		return format.Encode(streams.Out, t)
	}
	page := output.NewPage(streams.Out)
	write(t, page)
	return page.Flush()
}

func write(t query.Trace, page *output.Page) {
	colour := output.Good
	if !isWell(t) {
		colour = output.Bad
	}
	page.Printf("%s from %s to %s on node %s: %s\n", t.Protocol, t.From, t.To, t.Name, page.In(colour, string(t.Verdict)))
	if t.Mode != "" {
		page.Printf("Mode %s, revision %s\n", t.Mode, t.Revision)
	}
	if t.Pending != "" {
		page.Printf("%s %s\n", page.In(output.Warn, "Not all of it is in the kernel yet:"), t.Pending)
	}
	page.Printf("\n")
	rows := make([][]output.Cell, 0, len(t.Steps))
	for _, step := range t.Steps {
		rows = append(rows, []output.Cell{{Text: step.Topic, Colour: output.Bold}, {Text: step.Text}})
	}
	page.Table("  ", rows...)
	if t.Kernel == nil {
		return
	}
	if t.Kernel.Equal {
		page.Printf("\nThe kernel holds just that, read back:\n")
	} else {
		page.Printf("\n%s\n", page.In(output.Bad, "The kernel holds something else:"))
		for _, difference := range t.Kernel.Differences {
			page.Printf("  differs: %s\n", difference)
		}
	}
	for _, line := range t.Kernel.Holds {
		page.Printf("  %s\n", page.In(output.Faint, line))
	}
}
