// Package relay makes a TCP address of one network reachable at an address of another, byte for byte.
package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// Relay forwards the connections that a listener takes.
type Relay struct {
	listener net.Listener
	dial     func(ctx context.Context) (net.Conn, error)
	ctx      context.Context
	cancel   context.CancelFunc
	group    sync.WaitGroup
}

// Start forwards every connection of a listener to one that dial makes, until Close, which closes the listener too. A
// connection that cannot be forwarded is closed, as if nobody listened.
func Start(listener net.Listener, dial func(ctx context.Context) (net.Conn, error)) *Relay {
	r := &Relay{listener: listener, dial: dial}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.group.Go(r.accept)
	return r
}

// Address is where it listens.
func (r *Relay) Address() string { return r.listener.Addr().String() }

func (r *Relay) accept() {
	for {
		near, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			r.group.Go(func() { r.forward(near) })
		}
	}
}

// forward copies both ways until either end closes.
func (r *Relay) forward(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := r.dial(r.ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	var copies sync.WaitGroup
	copies.Go(func() { defer cancel(); _, _ = io.Copy(near, far) })
	copies.Go(func() { defer cancel(); _, _ = io.Copy(far, near) })
	copies.Wait()
}

// Close ends all connections and returns when nothing of the relay runs any more.
func (r *Relay) Close() {
	r.cancel()
	_ = r.listener.Close()
	r.group.Wait()
}
