package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

const (
	// drawInterval is the shortest time between two reports.
	drawInterval = 500 * time.Millisecond
	// ageInterval is after what time a report is made although nothing was heard: silence may have become a problem.
	ageInterval = 10 * time.Second
)

// watch shows reports while the world changes, until the context ends. What it returns then is the verdict of the last.
func watch(ctx context.Context, f *access.Factory, seesNodes bool, screen *screen) error {
	world, err := newCache(f)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	if err := subscribe(ctx, world, seesNodes, changed); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		if err := world.Start(ctx); err != nil {
			stop(fmt.Errorf("following the cluster: %w", err))
		}
	})
	defer following.Wait()
	defer stop(nil)
	if !world.WaitForCacheSync(ctx) {
		return fmt.Errorf("reading the cluster: %w", context.Cause(ctx))
	}
	draw, age := time.NewTicker(drawInterval), time.NewTicker(ageInterval)
	defer draw.Stop()
	defer age.Stop()
	var last Report
	for {
		view, err := readCache(ctx, world, seesNodes, f.OperatorNamespace, time.Now())
		if err != nil {
			return fmt.Errorf("following the cluster: %w", err)
		}
		last = Make(view)
		if err := screen.show(last, view.Now); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-age.C:
		}
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return conclude(last, nil)
		case <-draw.C:
		}
	}
}

func newCache(f *access.Factory) (cache.Cache, error) {
	config, err := f.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme, err := access.Scheme()
	if err != nil {
		return nil, err
	}
	world, err := cache.New(config, cache.Options{Scheme: scheme, DefaultTransform: cache.TransformStripManagedFields()})
	if err != nil {
		return nil, fmt.Errorf("preparing to follow the cluster: %w", err)
	}
	return world, nil
}

// subscribe asks a cache that has not started yet for all that a report is made of, and to be told when that changes.
func subscribe(ctx context.Context, world cache.Cache, seesNodes bool, changed chan<- struct{}) error {
	kinds := []client.Object{&v1alpha1.ServiceProxyConfig{}, &v1alpha1.ServiceProxyNode{}}
	if seesNodes {
		node := &metav1.PartialObjectMetadata{}
		node.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
		kinds = append(kinds, node)
	}
	tell := func(any) {
		select {
		case changed <- struct{}{}:
		default: // it has been told already
		}
	}
	for _, kind := range kinds {
		informer, err := world.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("following %T: %w", kind, err)
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: tell, UpdateFunc: func(_, after any) { tell(after) }, DeleteFunc: tell,
		})
		if err != nil {
			return fmt.Errorf("following %T: %w", kind, err)
		}
	}
	return nil
}

// readCache reads what a report is made of. It does not ask for Nodes that cannot be seen: a cache would wait for them
// forever. What has been read is there also when the context has ended.
func readCache(ctx context.Context, world cache.Cache, seesNodes bool, namespace string, now time.Time) (View, error) {
	ctx = context.WithoutCancel(ctx)
	view, err := read(ctx, world, namespace, now)
	if err == nil && seesNodes {
		view.Nodes, err = numberOfNodes(ctx, world)
	}
	return view, err
}

// screen shows one report after the other: a terminal is drawn anew, other readers get a line for what has changed, and
// programs get whole reports.
type screen struct {
	out    io.Writer
	format output.Format
	page   *output.Page
	redraw bool
	before []string
}

func newScreen(out io.Writer, format output.Format) *screen {
	return &screen{out: out, format: format, page: output.NewPage(out), redraw: output.IsTerminal(out)}
}

// home moves the cursor to the upper left corner and clears what is below (ECMA-48: CUP, ED).
const home = "\x1b[H\x1b[J"

func (s *screen) show(report Report, now time.Time) error {
	if s.redraw && !s.format.IsForPrograms() {
		s.page.Printf("%s%s\n\n", home, s.page.In(output.Faint, now.Format(time.TimeOnly)+"  (end with Ctrl-C)"))
		report.Print(s.page, s.format == output.Wide)
		return s.page.Flush()
	}
	lines := report.lines()
	added := missing(s.before, lines)
	first := s.before == nil
	s.before = lines
	if len(added) == 0 && !first {
		return nil
	}
	if s.format.IsForPrograms() {
		if s.format == output.YAML {
			s.page.Printf("---\n")
			if err := s.page.Flush(); err != nil {
				return err
			}
		}
		return s.format.Encode(s.out, report)
	}
	for _, line := range added {
		s.page.Printf("%s %s\n", now.UTC().Format(time.RFC3339), line)
	}
	return s.page.Flush()
}

// lines says what there is to say in lines that stay the same as long as it does.
func (r *Report) lines() []string {
	lines := []string{r.Summary}
	for i := range r.Pools {
		p := &r.Pools[i]
		lines = append(lines, fmt.Sprintf("pool %s: %s, %d of %d nodes updated, %d in sync, %d failed: %s",
			p.Name, p.State, p.Updated, p.Assigned, p.InSync, p.Failed, p.Message))
	}
	for i := range r.Problems {
		if p := &r.Problems[i]; p.Pool == "" {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", p.where(false), p.Reason, p.Message))
		}
	}
	return lines
}

// missing returns the lines that are not among those of before.
func missing(before, lines []string) []string {
	known := map[string]bool{}
	for _, line := range before {
		known[line] = true
	}
	var added []string
	for _, line := range lines {
		if !known[line] {
			added = append(added, line)
		}
	}
	return added
}
