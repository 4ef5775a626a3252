package apiserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

func TestAPIServer(t *testing.T) {
	specs.Run(t, "dataplane/apiserver")
}

var world *cluster.Cluster

var _ = BeforeSuite(func(ctx context.Context) {
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	var err error
	world, err = cluster.Start(ctx, cluster.Options{Nodes: []string{"fresh"}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(world.Stop)
})

// administrator returns an administrator's access to a Service that nobody has programmed.
func administrator() *rest.Config {
	access := world.RESTConfig()
	access.Host = "https://" + service
	return access
}

// lan returns where the API server really is.
func lan() string { return world.ControlPlane().IPv4.String() + ":6443" }

// door is an address of the API server that can be shut and opened again.
type door struct {
	address string
	mu      sync.Mutex
	open    context.CancelFunc
	group   sync.WaitGroup
}

func newDoor(ctx context.Context) *door {
	GinkgoHelper()
	d := &door{address: "127.0.0.1:0"}
	d.openAgain(ctx)
	DeferCleanup(d.shut)
	return d
}

// openAgain listens, and forwards connections to the API server.
func (d *door) openAgain(ctx context.Context) {
	GinkgoHelper()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", d.address)
	Expect(err).NotTo(HaveOccurred())
	d.address = listener.Addr().String()
	opened, shut := context.WithCancel(context.Background())
	d.mu.Lock()
	d.open = shut
	d.mu.Unlock()
	context.AfterFunc(opened, func() { _ = listener.Close() })
	d.group.Go(func() {
		for {
			near, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				d.group.Go(func() { forward(opened, near) })
			}
		}
	})
}

// shut refuses connections and breaks those that there are.
func (d *door) shut() {
	d.mu.Lock()
	d.open()
	d.mu.Unlock()
	d.group.Wait()
}

func forward(ctx context.Context, near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := world.ControlPlane().Dial(ctx, "tcp", lan())
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	var copies sync.WaitGroup
	copies.Go(func() { defer cancel(); _, _ = io.Copy(near, far) })
	copies.Go(func() { defer cancel(); _, _ = io.Copy(far, near) })
	copies.Wait()
}
