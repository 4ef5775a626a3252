package steer

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/gitops"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

// Result is what a command did to a pool. Its JSON form is stable: fields may be added, and none is renamed or removed.
type Result struct {
	Pool   string `json:"pool"`
	Action string `json:"action"`
	// Changes are empty if there was nothing to do.
	Changes []Change `json:"changes"`
	// DryRun is none, client or server.
	DryRun string `json:"dryRun"`
	// Message says what it comes to.
	Message string `json:"message"`
	// Warnings are what to mind.
	Warnings []string `json:"warnings,omitempty"`
	// Undo is the command that takes it back.
	Undo string `json:"undo,omitempty"`
}

// change is what a command does to a config in memory.
type change struct {
	action, message, undo string
	warnings              []string
	// path is the part of the config that it changes.
	path string
	of   func(*v1alpha1.ServiceProxyConfig) any
}

// options are the flags that all commands of this package have.
type options struct {
	factory *access.Factory
	streams genericiooptions.IOStreams
	format  output.Format
	dryRun  string
}

// Values of flag --dry-run, as kubectl has them.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// command completes a command whose one argument is a pool.
func (o *options) command(cmd *cobra.Command, edit func(context.Context, client.Client, *v1alpha1.ServiceProxyConfig) (change, error)) *cobra.Command {
	cmd.Args = cobra.ExactArgs(1)
	cmd.ValidArgsFunction = o.factory.CompletePools()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains([]string{dryRunNone, dryRunClient, dryRunServer}, o.dryRun) {
			return fmt.Errorf("--dry-run=%s: it is none, client or server", o.dryRun)
		}
		api, err := o.factory.Client()
		if err != nil {
			return err
		}
		config, err := access.Pool(cmd.Context(), api, args[0])
		if err != nil {
			return err
		}
		return o.apply(cmd.Context(), api, config, edit)
	}
	o.format.AddFlag(cmd, output.Text)
	cmd.Flags().StringVar(&o.dryRun, "dry-run", dryRunNone,
		"none, client to show what would be changed, or server to have the API server check it too")
	// The flag was defined right before, which is all that registering asks for.
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{dryRunNone, dryRunClient, dryRunServer},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// apply edits a pool: it says what changes, and then changes it.
func (o *options) apply(
	ctx context.Context, api client.Client, config *v1alpha1.ServiceProxyConfig,
	edit func(context.Context, client.Client, *v1alpha1.ServiceProxyConfig) (change, error),
) error {
	before := config.DeepCopy()
	made, err := edit(ctx, api, config)
	if err != nil {
		return err
	}
	result := Result{Pool: config.Name, Action: made.action, Message: made.message, DryRun: o.dryRun, Changes: []Change{}}
	if made.of != nil {
		if result.Changes, err = Compare(made.path, made.of(before), made.of(config)); err != nil {
			return err
		}
		result.Undo, result.Warnings = made.undo, made.warnings
	}
	if warning := undone(before, result.Changes); warning != "" {
		result.Warnings = append(result.Warnings, warning)
	}
	page := output.NewPage(o.streams.Out)
	if !o.format.IsForPrograms() {
		result.before(page)
		if err := page.Flush(); err != nil {
			return err
		}
	}
	if err := o.write(ctx, api, before, config, result.Changes); err != nil {
		return err
	}
	if o.format.IsForPrograms() {
		return o.format.Encode(o.streams.Out, result)
	}
	result.after(page)
	return page.Flush()
}

// undone says whether somebody keeps the pool as it is in Git.
func undone(config *v1alpha1.ServiceProxyConfig, changes []Change) string {
	keeper := gitops.KeeperOf(config)
	if keeper == nil {
		return ""
	}
	paths := make([]string, 0, len(changes))
	for _, c := range changes {
		paths = append(paths, c.Path)
	}
	return keeper.Warning(paths...)
}

// rereads is how often a change is sent again that met a write of the operator.
const rereads = 5

// write sends what has changed, and nothing else; not if the spec has changed since it was read. The status changes all the time.
func (o *options) write(ctx context.Context, api client.Client, before, after *v1alpha1.ServiceProxyConfig, changes []Change) error {
	if len(changes) == 0 || o.dryRun == dryRunClient {
		return nil
	}
	options := []client.PatchOption{client.FieldOwner(access.FieldManager)}
	if o.dryRun == dryRunServer {
		options = append(options, client.DryRunAll)
	}
	before, after = before.DeepCopy(), after.DeepCopy()
	for range rereads {
		err := api.Patch(ctx, after.DeepCopy(), client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), options...)
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("changing pool %s: %w", before.Name, err)
		}
		now, err := access.Pool(ctx, api, before.Name)
		if err != nil {
			return err
		}
		if now.UID != before.UID || now.Generation != before.Generation {
			break
		}
		before.ResourceVersion, after.ResourceVersion = now.ResourceVersion, now.ResourceVersion
	}
	return fmt.Errorf("pool %s was changed by somebody else meanwhile, so nothing was done; look at it and try again", before.Name)
}

// before adds what is going to be done.
func (r *Result) before(page *output.Page) {
	for _, warning := range r.Warnings {
		page.Printf("%s %s\n", page.In(output.Warn, "WARNING"), warning)
	}
	for _, change := range r.Changes {
		page.Printf("  %s\n", change)
	}
}

// after adds what was done.
func (r *Result) after(page *output.Page) {
	page.Printf("%s: %s", page.In(output.Bold, "pool "+r.Pool), r.Message)
	if len(r.Changes) > 0 && r.DryRun != dryRunNone {
		page.Printf(" (%s dry run: nothing was changed)", r.DryRun)
	}
	page.Printf("\n")
	if len(r.Changes) == 0 {
		return
	}
	page.Printf("%s %s\n", page.In(output.Faint, "undo:"), r.Undo)
}
