// Command proxies puts whole Service proxies side by side: the agent with both backends of iptables, and kube-proxy in its
// modes iptables, with both backends, and nftables. All of them follow one real API server, each on a node of its own of
// one test cluster, one after the other, and packets are sent through what they leave in the kernel.
//
// It prints what was measured, as ratios, beside what is to be reached, and writes all of it to a file. docs/performance.md
// says what the numbers mean and why the comparison is fair.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Options are how much is measured.
type Options struct {
	// Root is the folder of the repository: the agent is in bin.
	Root string
	// Sizes are the numbers of Services, and PerService is how many endpoints each of them has. Their changes are measured where
	// that is one.
	Sizes      []int
	PerService int
	// Changes is how often a lone change is timed, and Churn for how long endpoints change all the time.
	Changes int
	Churn   time.Duration
	// Mass is in what time all endpoints of the large Service are replaced.
	Mass time.Duration
	// Idle is how long proxies are watched doing nothing, and Rest for how long they have had nothing to do before: what
	// the agent knows is on disk half a minute after the last change.
	Idle, Rest time.Duration
	// Rounds is how many connections are opened to each target.
	Rounds int
	// NodePorts and Endpoints are the numbers of node ports, and of endpoints of the one large Service.
	NodePorts, Endpoints int
	// Flows is how many entries conntrack has when an endpoint with some of them goes.
	Flows int
	// Only are the contestants that take part; all when empty.
	Only []string
	// Edges says whether node ports, a large Service and flows are measured too.
	Edges bool
	// Ceiling says that nothing is measured but how many Services, of Sizes, a proxy keeps up with.
	Ceiling bool
}

// parse reads options from flags. A full run takes hours: kube-proxy alone needs many minutes for 20,000 Services.
func parse(args []string) (Options, error) {
	o := Options{Sizes: []int{1_000, 5_000}, Changes: 15, Churn: 8 * time.Second, Mass: 10 * time.Second, Idle: 20 * time.Second, Rest: 35 * time.Second, Rounds: 1_500,
		NodePorts: 2_000, Endpoints: 1_000, Flows: 100_000}
	flags := flag.NewFlagSet("proxies", flag.ContinueOnError)
	flags.StringVar(&o.Root, "root", ".", "the folder of the repository")
	size := flags.String("size", "default", "default, or full: also 20,000 Services, and longer")
	numbers := flags.String("services", "", "numbers of Services, with commas, instead of those of the size")
	flags.IntVar(&o.PerService, "endpoints", 1, "endpoints of each Service; changes are measured where it is one")
	flags.BoolVar(&o.Ceiling, "ceiling", false, "measure only how many Services, of -services in their order, each keeps up with")
	only := flags.String("only", "", "contestants to measure, with commas, such as agent-nft; all when empty")
	edges := flags.Bool("edges", true, "measure node ports, a large Service and flows too")
	idle := flags.Duration("idle", 0, "for how long proxies are watched doing nothing, instead of for that of the size")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch *size {
	case "default":
	case "full":
		o.Sizes, o.Changes, o.Churn, o.Idle = []int{1_000, 5_000, 20_000}, 40, time.Minute, 5*time.Minute
	default:
		return o, fmt.Errorf("-size is %q: it has to be default or full", *size)
	}
	if o.Edges = *edges; *idle > 0 {
		o.Idle = *idle
	}
	if *numbers != "" {
		o.Sizes = nil
		for field := range strings.SplitSeq(*numbers, ",") {
			n, err := strconv.Atoi(field)
			if err != nil || n < 3 || n > maxServices {
				return o, fmt.Errorf("-services has %q: it has to be a number from 3 to %d", field, maxServices)
			}
			o.Sizes = append(o.Sizes, n)
		}
	}
	if o.PerService < 1 || o.PerService > maxPerService {
		return o, fmt.Errorf("-endpoints is %d: it has to be a number from 1 to %d", o.PerService, maxPerService)
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	return o, nil
}

func main() {
	log.SetLogger(klog.Background()) // of the clients of test clusters
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	options, err := parse(args)
	if err != nil {
		return err
	}
	results, err := measure(ctx, options, func(format string, args ...any) {
		fmt.Printf(time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
	})
	if results != nil {
		results.print(os.Stdout)
		err = errors.Join(err, results.write(filepath.Join(options.Root, ".cache", "bench", "proxies.json")))
	}
	return err
}
