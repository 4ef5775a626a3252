package chaos

import (
	"context"
	"fmt"
	"strings"
)

// longestStretch is how many steps there are at most from one moment in which everything has to be right to the next.
const longestStretch = 20

// Run takes steps: a fault each, drawn at random. What goes wrong is an error that has the last of them.
func (w *World) Run(ctx context.Context, steps int) (err error) {
	step, opened := 0, 0
	defer func() {
		if err != nil {
			last := w.steps[max(0, len(w.steps)-2*longestStretch):]
			err = fmt.Errorf("at step %d: %w\nThe last steps were:\n%s\n%s", step, err, strings.Join(last, "\n"), w.said())
		}
	}()
	for settling := 0; step < steps; settling++ {
		for range 1 + w.rand.IntN(longestStretch) {
			if step++; step > steps {
				break
			}
			if err := w.step(ctx, step); err != nil {
				return err
			}
		}
		if err := w.settle(ctx); err != nil {
			return err
		}
		n, err := w.undisturbed()
		if err != nil {
			return err
		}
		opened += n
		w.notef("-- after step %d all is well; %d connections were opened so far, %d are held", min(step, steps), opened, len(w.held))
	}
	return w.untouched(ctx)
}

// step does one thing.
func (w *World) step(ctx context.Context, number int) error {
	f := w.draw()
	if f.excused {
		if _, err := w.undisturbed(); err != nil {
			return err
		}
	}
	said, err := f.do(ctx, w)
	w.notef("%4d %s: %s", number, f.name, said)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if f.excused {
		if err := w.recovers(ctx); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		w.excuse()
	}
	return nil
}

// notef adds to the list of steps.
func (w *World) notef(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	w.steps = append(w.steps, line)
	_, _ = fmt.Fprintln(w.Log, line) // what cannot be logged is in steps
}

// draw picks a fault, by weight.
func (w *World) draw() fault {
	var possible []fault
	total := 0
	for _, f := range faults() {
		if f.possible == nil || f.possible(w) {
			possible = append(possible, f)
			total += f.weight
		}
	}
	n := w.rand.IntN(total)
	for _, f := range possible {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	return possible[0]
}

// said is what agents and the operator said last.
func (w *World) said() string {
	var b strings.Builder
	for _, node := range w.nodes {
		fmt.Fprintf(&b, "--- agent of %s\n%s\n", node, w.Setup.Agent(node).Tail(25))
	}
	fmt.Fprintf(&b, "--- operator\n%s\n", w.Setup.Operator().Tail(10))
	return b.String()
}
