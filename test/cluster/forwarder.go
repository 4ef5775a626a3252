package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// forwarder makes a TCP address of a host reachable on a loopback port of the machine.
type forwarder struct {
	listener net.Listener
	dial     func(ctx context.Context) (net.Conn, error)
	ctx      context.Context
	cancel   context.CancelFunc
	group    sync.WaitGroup
}

// newForwarder listens on a free loopback port and forwards connections until it is closed. One that cannot be
// forwarded is closed, as if nobody listened.
func newForwarder(dial func(ctx context.Context) (net.Conn, error)) (*forwarder, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for clients of the API server: %w", err)
	}
	f := &forwarder{listener: listener, dial: dial}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.group.Go(f.accept)
	return f, nil
}

func (f *forwarder) address() string { return f.listener.Addr().String() }

func (f *forwarder) accept() {
	for {
		near, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			f.group.Go(func() { f.forward(near) })
		}
	}
}

// forward copies both ways until either end closes.
func (f *forwarder) forward(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := f.dial(f.ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	var copies sync.WaitGroup
	copies.Go(func() { defer cancel(); _, _ = io.Copy(near, far) })
	copies.Go(func() { defer cancel(); _, _ = io.Copy(far, near) })
	copies.Wait()
}

// close ends all connections and returns when nothing of the forwarder runs any more.
func (f *forwarder) close() {
	f.cancel()
	_ = f.listener.Close()
	f.group.Wait()
}
