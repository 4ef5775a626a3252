package cluster_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// startTimeout is far beyond what a start takes on a busy machine.
const startTimeout = 2 * time.Minute

// roleVariable tells a copy of this test binary what to be instead of the suite.
const roleVariable = "CLUSTER_TEST_ROLE"

const (
	holderRole = "holder" // holds a cluster until it is ended
	joinerRole = "joiner" // tests of a package that needs IPVS
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case holderRole:
		if err := hold(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case joinerRole:
		os.Exit(cluster.Main(m, cluster.Options{}))
	default:
		os.Exit(m.Run())
	}
}

func TestCluster(t *testing.T) {
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	specs.Run(t, "A cluster of network namespaces")
}

// hold runs a cluster, says where its files are when it is ready, and waits to be ended.
func hold() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return cluster.Run(ctx, cluster.Options{Nodes: []string{"a"}}, func(ctx context.Context, c *cluster.Cluster) error {
		if _, err := c.RunPod(ctx, web("web", "a")); err != nil {
			return err
		}
		fmt.Println(c.LogDir())
		<-ctx.Done()
		return nil
	})
}
