package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

// step is one thing that is done, or waited for.
type step struct {
	// does says what, and undo is the command that takes it back; empty if there is nothing to take back.
	does, undo string
	// do does it, or finds that it was done already.
	do func(context.Context) (already bool, err error)
	// wait tells whether what is waited for is there, and otherwise what is there instead.
	wait func(context.Context) (there bool, instead string, err error)
}

// walker hands nodes over.
type walker struct {
	factory *access.Factory
	api     client.Client
	streams genericiooptions.IOStreams
	page    *output.Page
	plan    Plan
	pool    string
	// kubeProxy is the DaemonSet.
	kubeProxy client.ObjectKey
	cleanup   bool
	timeout   time.Duration
	settle    time.Duration
	undo      []string // of all that was done, the first first
}

// pollInterval is how often it is looked whether what is waited for is there.
const pollInterval = time.Second

// steps returns all steps, by node; those for no node first.
func (w *walker) steps() []nodeSteps {
	var all []nodeSteps
	if w.plan.Teach {
		all = append(all, nodeSteps{"", w.teachKubeProxy()})
	}
	for _, node := range w.plan.Nodes {
		if w.plan.Direction == FromKubeProxy {
			all = append(all, nodeSteps{node, w.takeOver(node)})
		} else {
			all = append(all, nodeSteps{node, w.giveBack(node)})
		}
	}
	return all
}

// nodeSteps are the steps for one node.
type nodeSteps struct {
	node  string
	steps []step
}

// preview says what would be done.
func (w *walker) preview() error {
	for _, warning := range w.plan.Warnings {
		w.page.Printf("%s %s\n", w.page.In(output.Warn, "WARNING"), warning)
	}
	for _, of := range w.steps() {
		w.title(of.node)
		for _, s := range of.steps {
			w.page.Printf("  %s\n", s.does)
		}
	}
	return w.page.Flush()
}

func (w *walker) title(node string) {
	if node == "" {
		w.page.Printf("%s\n", w.page.In(output.Bold, "once"))
	} else {
		w.page.Printf("%s\n", w.page.In(output.Bold, "node "+node))
	}
}

// walk does all steps. It stops at the first that fails, and then says how to undo those before.
func (w *walker) walk(ctx context.Context) error {
	for _, of := range w.steps() {
		w.title(of.node)
		for _, s := range of.steps {
			if err := w.take(ctx, s); err != nil {
				return errors.Join(err, w.wayBack())
			}
		}
	}
	w.page.Printf("%s\n", w.page.In(output.Good, "done"))
	return w.page.Flush()
}

// take takes one step, and tells of it.
func (w *walker) take(ctx context.Context, s step) error {
	begin := time.Now()
	already := false
	if s.do != nil {
		var err error
		if already, err = s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.does, err)
		}
	}
	if s.wait != nil {
		if err := w.await(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.does, err)
		}
	}
	word := "done"
	switch {
	case already:
		word = "already so"
	case s.wait != nil:
		word = "after " + time.Since(begin).Round(time.Second).String()
	}
	w.page.Printf("  %s  %s\n", s.does, w.page.In(output.Good, word))
	if s.undo != "" && !already {
		w.undo = append(w.undo, s.undo)
		w.page.Printf("    %s %s\n", w.page.In(output.Faint, "undo:"), s.undo)
	}
	return w.page.Flush()
}

// await waits for what a step waits for, and tells what there is instead when the time is over.
func (w *walker) await(ctx context.Context, s step) error {
	last := "nothing"
	err := wait.PollUntilContextTimeout(ctx, pollInterval, w.timeout, true, func(ctx context.Context) (bool, error) {
		there, instead, err := s.wait(ctx)
		if instead != "" {
			last = instead
		}
		return there, err
	})
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("not so after %s; last seen: %s", w.timeout, last)
	}
	return err
}

// wayBack says how to undo all that was done, the last first.
func (w *walker) wayBack() error {
	if len(w.undo) == 0 {
		return w.page.Flush()
	}
	w.page.Printf("Stopped. To undo what was done, run in this order:\n")
	for i := range w.undo {
		w.page.Printf("  %s\n", w.undo[len(w.undo)-1-i])
	}
	return w.page.Flush()
}

// ask asks whether to go on.
func ask(in io.Reader, out io.Writer) (bool, error) {
	if _, err := fmt.Fprint(out, "Go on? [y/N] "); err != nil {
		return false, fmt.Errorf("asking: %w", err)
	}
	var answer string
	if _, err := fmt.Fscanln(in, &answer); err != nil {
		return false, nil //nolint:nilerr // an empty line, or none, is a no
	}
	return answer == "y" || answer == "yes" || answer == "Y", nil
}

// labelNode sets or, with an empty value, removes labels of a node.
func (w *walker) labelNode(ctx context.Context, name string, labels ...Label) (already bool, err error) {
	node := &corev1.Node{}
	if err := w.api.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		return false, fmt.Errorf("reading node %s: %w", name, err)
	}
	before := node.DeepCopy()
	already = true
	for _, label := range labels {
		value, has := node.Labels[label.Key]
		switch {
		case label.Value == "" && has:
			delete(node.Labels, label.Key)
			already = false
		case label.Value != "" && value != label.Value:
			if node.Labels == nil {
				node.Labels = map[string]string{}
			}
			node.Labels[label.Key] = label.Value
			already = false
		}
	}
	if already {
		return true, nil
	}
	if err := w.api.Patch(ctx, node, client.MergeFrom(before), client.FieldOwner(access.FieldManager)); err != nil {
		return false, fmt.Errorf("labelling node %s: %w", name, err)
	}
	return false, nil
}
