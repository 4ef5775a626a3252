package steer

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/controllers/config"
)

const plugin = "kubectl serviceproxy "

// state is the part of a config that pause and resume change.
func state(c *v1alpha1.ServiceProxyConfig) any {
	return struct {
		State v1alpha1.RolloutState `json:"state,omitempty"`
	}{c.Spec.Rollout.State}
}

// NewPauseCommand returns the command pause.
func NewPauseCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	o := &options{factory: f, streams: streams}
	return o.command(&cobra.Command{
		Use:   "pause POOL",
		Short: "Give no further node the new settings of a pool",
		Long: "Set spec.rollout.state of a pool to Paused: no further node is given new settings. Nodes that have them keep\n" +
			"them, and all go on following Services.",
		Example: "  kubectl serviceproxy pause default",
	}, func(_ context.Context, _ client.Client, c *v1alpha1.ServiceProxyConfig) (change, error) {
		if c.Spec.Rollout.State == v1alpha1.RolloutPaused {
			return change{action: "pause", message: "is paused already" + progress(c)}, nil
		}
		c.Spec.Rollout.State = v1alpha1.RolloutPaused
		return change{
			action: "pause", message: "paused" + progress(c), undo: plugin + "resume " + c.Name,
			path: "spec.rollout", of: state,
		}, nil
	})
}

// NewResumeCommand returns the command resume.
func NewResumeCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	o := &options{factory: f, streams: streams}
	return o.command(&cobra.Command{
		Use:     "resume POOL",
		Short:   "Go on giving nodes the new settings of a pool",
		Long:    "Take spec.rollout.state of a pool away, so that its rollout goes on where it was paused.",
		Example: "  kubectl serviceproxy resume default",
	}, func(_ context.Context, _ client.Client, c *v1alpha1.ServiceProxyConfig) (change, error) {
		if c.Spec.Rollout.State != v1alpha1.RolloutPaused {
			return change{action: "resume", message: "is not paused" + progress(c)}, nil
		}
		c.Spec.Rollout.State = ""
		return change{
			action: "resume", message: "goes on" + progress(c), undo: plugin + "pause " + c.Name,
			path: "spec.rollout", of: state,
		}, nil
	})
}

// progress says how far a rollout is, if it is under way.
func progress(c *v1alpha1.ServiceProxyConfig) string {
	counts := c.Status.Nodes
	if counts == nil || c.Status.ObservedGeneration != c.Generation {
		return ""
	}
	return fmt.Sprintf("; %d of %d nodes run the settings that it has", ptr.Deref(counts.Updated, 0), ptr.Deref(counts.Assigned, 0))
}

// NewRetryCommand returns the command retry.
func NewRetryCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	o := &options{factory: f, streams: streams}
	return o.command(&cobra.Command{
		Use:   "retry POOL",
		Short: "Try a rollout again that was stopped because nodes failed",
		Long: "Change the annotation " + v1alpha1.AnnotationRetry + " of a pool: nodes that failed are tried again, and a rollout that was\n" +
			"stopped goes on. Remove the cause first, or it will stop again.",
		Example: "  kubectl serviceproxy retry default",
	}, func(_ context.Context, _ client.Client, c *v1alpha1.ServiceProxyConfig) (change, error) {
		if c.Status.ObservedGeneration == c.Generation && c.Status.Halted == nil && len(c.Status.FailedNodes) == 0 {
			return change{action: "retry", message: "no node has failed, and no rollout was stopped: there is nothing to try again"}, nil
		}
		failed := ""
		if len(c.Status.FailedNodes) > 0 {
			failed = fmt.Sprintf(", first on %s", c.Status.FailedNodes[0].Name)
		}
		if c.Annotations == nil {
			c.Annotations = map[string]string{}
		}
		c.Annotations[v1alpha1.AnnotationRetry] = time.Now().UTC().Format(time.RFC3339Nano)
		return change{
			action: "retry", message: "is tried again" + failed, undo: plugin + "pause " + c.Name,
			path: "metadata.annotations", of: func(c *v1alpha1.ServiceProxyConfig) any {
				return map[string]string{v1alpha1.AnnotationRetry: c.Annotations[v1alpha1.AnnotationRetry]}
			},
		}, nil
	})
}

// NewRollbackCommand returns the command rollback.
func NewRollbackCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	o, wanted := &options{factory: f, streams: streams}, ""
	cmd := o.command(&cobra.Command{
		Use:   "rollback POOL",
		Short: "Give a pool back settings that it had before",
		Long: `Write settings that a pool had before into it, and show what that changes. It is a rollout like any other: canary
first, and it stops if nodes fail.

Without --to-revision these are the settings that the last completed rollout left on the nodes, or, if that is what the
pool says, those before. The priority, the node selector and the rollout of the pool are no settings and stay.`,
		Example: `  kubectl serviceproxy rollback default --dry-run=client
  kubectl serviceproxy rollback default
  kubectl serviceproxy rollback default --to-revision default-fe352139b3`,
	}, func(ctx context.Context, api client.Client, c *v1alpha1.ServiceProxyConfig) (change, error) {
		revisions, err := config.ReadRevisions(ctx, api, f.OperatorNamespace, c.Name)
		if err != nil {
			return change{}, err
		}
		target, err := Choose(c, revisions, wanted)
		if err != nil {
			return change{}, err
		}
		made := change{
			action: "rollback", path: "spec", undo: plugin + "rollback " + c.Name + " --to-revision " + c.Status.UpdateRevision,
			message: fmt.Sprintf("goes back to revision %s (number %d)", target.Name, target.Number),
			of:      func(c *v1alpha1.ServiceProxyConfig) any { return c.Spec.ProxySettings },
		}
		if c.Spec.Rollout.State == v1alpha1.RolloutPaused {
			made.warnings = append(made.warnings, "its rollout is paused, so no node goes back before: "+plugin+"resume "+c.Name)
		}
		if same, err := Compare("spec", c.Spec.ProxySettings, target.Settings); err == nil && len(same) == 0 {
			made.message = "has the settings of revision " + target.Name + " already"
		}
		target.Settings.DeepCopyInto(&c.Spec.ProxySettings)
		return made, nil
	})
	cmd.Flags().StringVar(&wanted, "to-revision", "", "name or number of the revision, as in\nkubectl -n NAMESPACE get controllerrevisions -l "+
		v1alpha1.LabelConfig+"=POOL")
	// The flag was defined right before, which is all that registering asks for.
	_ = cmd.RegisterFlagCompletionFunc("to-revision", func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		api, err := f.Client()
		if err != nil || len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		revisions, err := config.ReadRevisions(cmd.Context(), api, f.OperatorNamespace, args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, r := range revisions {
			names = append(names, r.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}
