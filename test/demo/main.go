// The demo brings up a cluster on this machine, installs service-proxy-operator on it, sends connections through
// Services, takes pods away while connections are being opened, and says what it measured. Then it takes live nodes from
// one mode to the other and back, on a kernel that has IPVS, for which it runs itself once more. It exits 0 only if
// everything was as it should be, and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/demo/scene"
	"github.com/serviceproxy/service-proxy-operator/test/kernel"
)

func main() {
	tell := tellAll
	if cluster.Invited() {
		tell = tellSecondPart
	}
	status, err := tell(context.Background())
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; nothing is left behind")
		status = 130
	case err != nil:
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		status = 1
	}
	os.Exit(status)
}

// tellAll tells the first part, and has this program tell the second one where IPVS is.
func tellAll(ctx context.Context) (status int, err error) {
	s := newStory(os.Stdout)
	fmt.Println("service-proxy-operator: from kubectl apply to a packet, on this machine alone.")
	err = s.tell(ctx, scene.Nodes(),
		(*demo).clusterComesUp,
		(*demo).nobodyProgramsServices,
		(*demo).configIsApplied,
		(*demo).connectionsArrive,
		(*demo).connectionsSpread,
		(*demo).podLeaves,
		(*demo).podCrashes,
		(*demo).whatEveryNodeRuns,
	)
	if err != nil {
		return 0, err
	}
	text := "A new cluster of two nodes, on the kernel of this machine."
	if !kernel.HasIPVS() {
		text = "The kernel of this machine has no ip_vs, so this cluster has its two nodes in user-mode Linux, a kernel that runs\n" +
			"as an ordinary program. The control plane stays outside."
	}
	s.chapter("Nodes that can run IPVS", text)
	if err := s.handOver(); err != nil {
		return 0, err
	}
	if status, err = cluster.Again(ctx, cluster.Options{}); status == 0 && err == nil {
		fmt.Println("Nothing is left behind.")
	}
	return status, err
}

// tellSecondPart goes on with the story, where IPVS is, and ends it.
func tellSecondPart(ctx context.Context) (status int, err error) {
	s, err := takeOver(os.Stdout)
	if err != nil {
		return 0, err
	}
	if err := s.tell(ctx, []string{"a", "b"}, (*demo).poolComesUp, (*demo).poolSwitches); err != nil {
		return 0, err
	}
	return s.end(), nil
}

// tell tells chapters of the story on a cluster of their own.
func (s *story) tell(ctx context.Context, nodes []string, chapters ...func(*demo, context.Context) error) error {
	return cluster.Run(ctx, cluster.Options{Nodes: nodes}, func(ctx context.Context, c *cluster.Cluster) error {
		d := &demo{story: s, cluster: c}
		for _, chapter := range chapters {
			if err := chapter(d, ctx); err != nil {
				return err
			}
		}
		return nil
	})
}
