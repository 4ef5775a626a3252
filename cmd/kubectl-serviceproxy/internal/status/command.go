package status

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

const about = `Show all pools and what is wrong, the worst first, each with the command to run next.

It fits on one screen however many nodes there are: nodes with the same problem are told together, and those without
one are counted. With --watch it follows what happens: on a terminal the screen is drawn anew, elsewhere a line is
written for everything that changes.

Exit status: 0 if every pool is Ready and no node has a problem, 1 if not, 2 if that could not be found out.`

// NewStatusCommand returns the command status.
func NewStatusCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var (
		format output.Format
		follow bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show all pools, and what is wrong first",
		Long:  about,
		Example: `  kubectl serviceproxy status
  kubectl serviceproxy status --watch
  kubectl serviceproxy status -o json | jq -r '.problems[].nodes[]?'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := f.Client()
			if err != nil {
				return err
			}
			view, err := read(cmd.Context(), api, f.OperatorNamespace, time.Now())
			if err != nil {
				return err
			}
			if view.Nodes, err = numberOfNodes(cmd.Context(), api); err != nil {
				return err
			}
			if follow {
				return watch(cmd.Context(), f, view.Nodes != nil, newScreen(streams.Out, format))
			}
			report := Make(view)
			return conclude(report, show(report, output.NewPage(streams.Out), format, streams))
		},
	}
	format.AddFlag(cmd, output.Text, output.Wide)
	cmd.Flags().BoolVarP(&follow, "watch", "w", false, "go on showing it while it changes")
	return cmd
}

// show writes a report once.
func show(report Report, page *output.Page, format output.Format, streams genericiooptions.IOStreams) error {
	if format.IsForPrograms() {
		return format.Encode(streams.Out, report)
	}
	report.Print(page, format == output.Wide)
	return page.Flush()
}

// conclude returns the verdict of a report that could be written.
func conclude(report Report, err error) error {
	if err == nil && !report.Well {
		return output.NotWell
	}
	return err
}

// read reads pools and nodes.
func read(ctx context.Context, api client.Reader, namespace string, now time.Time) (View, error) {
	var (
		configs v1alpha1.ServiceProxyConfigList
		objects v1alpha1.ServiceProxyNodeList
	)
	for _, list := range []client.ObjectList{&configs, &objects} {
		if err := api.List(ctx, list); err != nil {
			return View{}, fmt.Errorf("listing pools and nodes: %w", access.Explained(err))
		}
	}
	return View{Configs: configs.Items, Objects: objects.Items, Namespace: namespace, Now: now}, nil
}

// numberOfNodes counts the Nodes of the cluster. It is nil where the user may not see them.
func numberOfNodes(ctx context.Context, api client.Reader) (*int, error) {
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	switch err := api.List(ctx, nodes); {
	case err == nil:
		return new(len(nodes.Items)), nil
	case apierrors.IsForbidden(err):
		return nil, nil
	default:
		return nil, fmt.Errorf("listing Nodes: %w", err)
	}
}
