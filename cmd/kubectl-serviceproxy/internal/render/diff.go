package render

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

const aboutDiff = `Show what files would change in the rules of nodes if they were applied.

The API server says what the objects would become (a dry run of kubectl apply --server-side), and the rules before and after
are worked out by the code that agents run. Nothing is written. A Service that does not exist yet has no endpoints, and may
get another cluster IP than the one shown.

Without NODE, one node of each pool is compared, and of each that the files would take nodes to. The comparison is printed by
diff -u -N, or by the program that KUBECTL_EXTERNAL_DIFF names.

Exit status: 0 if nothing would change, 1 if something would, 2 if that could not be found out.`

// NewDiffCommand returns the command diff.
func NewDiffCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	files := newFileFlags("files, folders or URLs with the objects to compare with those of the cluster")
	cmd := &cobra.Command{
		Use:               "diff [NODE...] -f FILE",
		Short:             "Show what files would change in the rules of nodes",
		Long:              aboutDiff,
		Example:           "  kubectl serviceproxy diff -f config/samples/iptables.yaml",
		ValidArgsFunction: f.CompleteNodes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := inFiles(files, f, streams.ErrOut)
			if err != nil {
				return err
			}
			api, err := f.Client()
			if err != nil {
				return err
			}
			before, err := live(cmd.Context(), api)
			if err != nil {
				return err
			}
			after, err := before.with(cmd.Context(), api, found)
			if err != nil {
				return err
			}
			return compare(cmd.Context(), streams, before, after, args)
		},
	}
	files.AddFlags(cmd.Flags())
	return cmd
}

// with are the objects as they were if others were applied over them.
func (o *objects) with(ctx context.Context, api client.Client, applied []*unstructured.Unstructured) (*objects, error) {
	after := &objects{
		slices.Clone(o.configs), slices.Clone(o.nodes), slices.Clone(o.services), slices.Clone(o.slices), slices.Clone(o.serviceCIDRs),
	}
	for _, u := range applied {
		kind, name := u.GetKind(), u.GetName()
		u.SetManagedFields(nil)
		err := api.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.DryRunAll, client.ForceOwnership, client.FieldOwner("kubectl"))
		if err != nil {
			return nil, fmt.Errorf("asking what %s %s would become: %w", kind, name, access.Explained(err))
		}
		if err := after.put(u); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// compare has a program show the rules of nodes before and after.
func compare(ctx context.Context, streams genericiooptions.IOStreams, before, after *objects, names []string) (err error) {
	nodes, err := after.named(names...)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		nodes = representatives(before, after, nodes)
	}
	root, err := os.MkdirTemp("", "serviceproxy-diff-")
	if err != nil {
		return fmt.Errorf("making room for rules: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	sides := map[string]*objects{"LIVE": before, "MERGED": after}
	for side, all := range sides {
		if err := os.Mkdir(filepath.Join(root, side), 0o700); err != nil {
			return fmt.Errorf("making room for rules: %w", err)
		}
		for _, node := range nodes {
			if err := write(filepath.Join(root, side, node.Name), all, node.Name); err != nil {
				return err
			}
		}
	}
	return show(ctx, streams, root)
}

// representatives are the first node of each pool before and after.
func representatives(before, after *objects, nodes []*corev1.Node) []*corev1.Node {
	var chosen []*corev1.Node
	pool := func(o *objects, node *corev1.Node) string {
		if config, _ := o.config(node); config != nil {
			return config.Name
		}
		return ""
	}
	seen := map[[2]string]bool{}
	for _, node := range nodes {
		change := [2]string{pool(before, node), pool(after, node)}
		if !seen[change] && change != [2]string{} {
			seen[change] = true
			chosen = append(chosen, node)
		}
	}
	return chosen
}

// write writes the rules of a node into a file. There is none of a node that has no rules.
func write(path string, all *objects, name string) error {
	i := slices.IndexFunc(all.nodes, func(n corev1.Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	node := &all.nodes[i]
	if config, _ := all.config(node); config == nil {
		return nil
	}
	rendering, err := all.rules(node)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing the rules of node %s: %w", name, err)
	}
	_, err = rendering.WriteTo(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing the rules of node %s: %w", name, err)
	}
	return nil
}

// show has a program compare two folders.
func show(ctx context.Context, streams genericiooptions.IOStreams, root string) error {
	words := strings.Fields(cmp.Or(os.Getenv("KUBECTL_EXTERNAL_DIFF"), "diff -u -N -r"))
	program := exec.CommandContext(ctx, words[0], append(words[1:], "LIVE", "MERGED")...)
	program.Dir, program.Stdout, program.Stderr = root, streams.Out, streams.ErrOut
	err := program.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is && exit.ExitCode() == 1 {
		return output.NotWell
	}
	if err != nil {
		return fmt.Errorf("comparing by %s: %w", words[0], err)
	}
	return nil
}
