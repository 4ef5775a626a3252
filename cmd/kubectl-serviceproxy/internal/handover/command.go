package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

const about = `Walk nodes from kube-proxy to a pool, or back, as docs/handover.md says, one node after another. At any moment one
of the two programs every node, and for a while both do; neither touches what the other one made.

Without names it walks all nodes that the pool selects. A node that is named is given the labels by which the pool
selects nodes, or has them taken away on the way back. Another label keeps the DaemonSet of kube-proxy off a node.

It tells every step and the command that undoes it, and stops at the first that fails. Run again, it goes on there: what
is so already is not done again.`

// kubeProxy is the word that says from whom or to whom.
const kubeProxy = "kube-proxy"

// flags are the flags of the command.
type flags struct {
	from, to, avoided, daemonSet, dryRun string
	timeout, settle                      time.Duration
	cleanup, yes                         bool
}

// NewHandoverCommand returns the command handover.
func NewHandoverCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var given flags
	cmd := &cobra.Command{
		Use:   "handover POOL [NODE...] --from kube-proxy | --to kube-proxy",
		Short: "Walk nodes from kube-proxy to a pool and back, with checks",
		Long:  about,
		Example: `  kubectl serviceproxy handover edge --from kube-proxy --dry-run=client
  kubectl serviceproxy handover edge worker-1 --from kube-proxy
  kubectl serviceproxy handover edge --to kube-proxy --yes`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: f.CompletePools(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), f, streams, given, args[0], args[1:])
		},
	}
	set := cmd.Flags()
	set.StringVar(&given.from, "from", "", "kube-proxy: it leaves the nodes")
	set.StringVar(&given.to, "to", "", "kube-proxy: it comes back")
	set.StringVar(&given.avoided, "kube-proxy-off", "example.com/kube-proxy=off", "label that keeps kube-proxy off a node")
	set.StringVar(&given.daemonSet, "kube-proxy", "kube-system/kube-proxy", "DaemonSet of kube-proxy, as NAMESPACE/NAME")
	set.StringVar(&given.dryRun, "dry-run", "none", "none, or client to show the steps and take none")
	set.DurationVar(&given.timeout, "timeout", 5*time.Minute, "how long to wait for one step")
	set.DurationVar(&given.settle, "settle", 30*time.Second, "how long kube-proxy has to be Ready before ours goes")
	set.BoolVar(&given.cleanup, "cleanup", true, "remove the rules that kube-proxy leaves")
	set.BoolVarP(&given.yes, "yes", "y", false, "do not ask")
	cmd.MarkFlagsOneRequired("from", "to")
	cmd.MarkFlagsMutuallyExclusive("from", "to")
	return cmd
}

func run(ctx context.Context, f *access.Factory, streams genericiooptions.IOStreams, given flags, pool string, nodes []string) error {
	direction, err := given.direction()
	if err != nil {
		return err
	}
	avoided, err := ParseLabel(given.avoided)
	if err != nil {
		return fmt.Errorf("--kube-proxy-off: %w", err)
	}
	namespace, name, found := strings.Cut(given.daemonSet, "/")
	if !found {
		return fmt.Errorf("--kube-proxy=%s: it is NAMESPACE/NAME", given.daemonSet)
	}
	api, err := f.Client()
	if err != nil {
		return err
	}
	key := client.ObjectKey{Namespace: namespace, Name: name}
	world, err := read(ctx, api, pool, key)
	if err != nil {
		return err
	}
	plan, err := NewPlan(world, direction, nodes, avoided)
	if err != nil {
		return err
	}
	w := &walker{
		factory: f, api: api, streams: streams, page: output.NewPage(streams.Out), plan: plan, pool: pool, kubeProxy: key,
		cleanup: given.cleanup, timeout: given.timeout, settle: given.settle,
	}
	if given.dryRun == "client" || !given.yes {
		if err := w.preview(); err != nil || given.dryRun == "client" {
			return err
		}
		if err := confirm(streams); err != nil {
			return err
		}
	}
	return w.walk(ctx)
}

// direction checks the flags that have few values.
func (g *flags) direction() (Direction, error) {
	if g.dryRun != "none" && g.dryRun != "client" {
		return 0, fmt.Errorf("--dry-run=%s: it is none or client: what a step comes to depends on those before", g.dryRun)
	}
	switch {
	case g.from == kubeProxy:
		return FromKubeProxy, nil
	case g.to == kubeProxy:
		return ToKubeProxy, nil
	default:
		return 0, fmt.Errorf("nodes can be handed over --from %s or --to %s", kubeProxy, kubeProxy)
	}
}

func confirm(streams genericiooptions.IOStreams) error {
	if file, is := streams.In.(*os.File); !is || !output.IsTerminal(file) {
		return errors.New("nobody is there to be asked; give --yes if that is what you want")
	}
	yes, err := ask(streams.In, streams.Out)
	if err == nil && !yes {
		return errors.New("nothing was done")
	}
	return err
}

func read(ctx context.Context, api client.Reader, pool string, kubeProxy client.ObjectKey) (World, error) {
	config, err := access.Pool(ctx, api, pool)
	if err != nil {
		return World{}, err
	}
	var nodes corev1.NodeList
	if err := api.List(ctx, &nodes); err != nil {
		return World{}, fmt.Errorf("listing Nodes: %w", err)
	}
	world := World{Pool: config, Nodes: nodes.Items, KubeProxy: &appsv1.DaemonSet{}}
	switch err := api.Get(ctx, kubeProxy, world.KubeProxy); {
	case apierrors.IsNotFound(err):
		world.KubeProxy = nil
	case err != nil:
		return World{}, fmt.Errorf("reading DaemonSet %s: %w", kubeProxy, err)
	}
	return world, nil
}
