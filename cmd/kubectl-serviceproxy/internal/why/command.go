package why

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
	"github.com/serviceproxy/service-proxy-operator/controllers/config"
)

const about = `Show which config has a node and why, which revision the node was given, and what it waits for.

The answer comes from the code by which the operator decides, run on what the API server says now.

Exit status: 0 if the node has what it is to have, or is to have nothing, 1 if not, 2 if that could not be found out.`

// NewWhyCommand returns the command why.
func NewWhyCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var format output.Format
	cmd := &cobra.Command{
		Use:               "why NODE",
		Short:             "Show why a node has what it has, and what it waits for",
		Long:              about,
		Example:           "  kubectl serviceproxy why worker-1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.CompleteNodes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := f.Client()
			if err != nil {
				return err
			}
			world, err := config.ReadWorld(cmd.Context(), api, f.OperatorNamespace)
			if err != nil {
				return fmt.Errorf("reading what the operator decides by: %w", access.Explained(err))
			}
			world.Now = metav1.NewTime(time.Now())
			answer, exists := Find(world, args[0], f.OperatorNamespace)
			if !exists {
				var names []string
				for _, node := range world.Nodes {
					names = append(names, node.Name)
				}
				slices.Sort(names)
				return access.NoSuch("node", args[0], names)
			}
			if err := show(answer, format, streams); err != nil {
				return err
			}
			if !answer.Well {
				return output.NotWell
			}
			return nil
		},
	}
	format.AddFlag(cmd, output.Text)
	return cmd
}

func show(answer Answer, format output.Format, streams genericiooptions.IOStreams) error {
	if format.IsForPrograms() {
		return format.Encode(streams.Out, answer)
	}
	page := output.NewPage(streams.Out)
	answer.Print(page)
	return page.Flush()
}
