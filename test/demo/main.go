// The demo brings up a cluster on this machine, installs service-proxy-operator on it, sends connections through
// Services, takes a pod away while connections are being opened, and says what it measured. It exits 0 only if
// everything was as it should be, and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/demo/scene"
)

func main() {
	s := &story{out: os.Stdout, colour: isTerminal(os.Stdout), start: time.Now()}
	fmt.Println("service-proxy-operator: from kubectl apply to a packet, on this machine alone.")

	err := cluster.Run(context.Background(), cluster.Options{Nodes: scene.Nodes()}, func(ctx context.Context, c *cluster.Cluster) error {
		d := &demo{story: s, cluster: c}
		for _, chapter := range []func(context.Context) error{
			d.clusterComesUp,
			d.nobodyProgramsServices,
			d.configIsApplied,
			d.connectionsArrive,
			d.connectionsSpread,
			d.podLeaves,
			d.podCrashes,
			d.whatEveryNodeRuns,
		} {
			if err := chapter(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; nothing is left behind")
		os.Exit(130)
	case err == nil:
		err = s.end()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
