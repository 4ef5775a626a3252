package ipvs

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/test/bench/connect"
	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// What is measured of packets. The second shows what a connection costs on the same node without IPVS.
const (
	firstPacket   = "first packet, a random Service"
	withoutIPVS   = "first packet, no Service"
	packetRounds  = 400
	packetTimeout = 5 * time.Second
)

// packets times connections of a pod on each of two nodes, ours first, in turn.
func packets(b *testing.B, c *cluster.Cluster, mine, kubeProxys *cluster.Node, services int, r results) {
	b.Helper()
	sides := []*cluster.Pod{clientOn(b, c, mine), clientOn(b, c, kubeProxys)}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range packetRounds {
		for what, to := range map[string]netip.AddrPort{
			firstPacket: netip.AddrPortFrom(clusterIP(random.IntN(services)), churn.Port),
			withoutIPVS: netip.AddrPortFrom(nth([4]byte{10, 201}, 1), churn.EndpointPort),
		} {
			for i := range sides {
				at := (i + round) % len(sides)
				took, err := timeConnect(sides[at], to)
				switch {
				case errors.Is(err, unix.EINTR): // by the scheduler of the Go runtime
				case err != nil:
					b.Fatalf("%s, connection %d of %s: %v", what, round, side(at), err)
				case round > 0: // the first makes neighbours known
					r.add(side(at), what, "us", float64(took.Nanoseconds())/1e3)
				}
			}
		}
	}
}

func timeConnect(from *cluster.Pod, to netip.AddrPort) (took time.Duration, err error) {
	err = from.Do(func() error {
		fd, err := connect.Socket(packetTimeout)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // resets the connection
		took, err = connect.Time(fd, to)
		return err
	})
	return took, err
}

// clientOn is a pod of a node on which another pod answers at every endpoint.
func clientOn(b *testing.B, c *cluster.Cluster, node *cluster.Node) *cluster.Pod {
	b.Helper()
	pods, err := c.RunPods(b.Context(),
		cluster.PodSpec{Name: "client-" + node.Name, Node: node.Name}, cluster.PodSpec{Name: "server-" + node.Name, Node: node.Name})
	if err != nil {
		b.Fatal(err)
	}
	stop, err := churn.Serve(b.Context(), node, pods[1], netip.MustParsePrefix("10.201.0.0/16"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = stop() }) // the node is gone by then
	return pods[0]
}
