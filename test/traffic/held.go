package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// The pace of a held connection: how often it is used, and how long an answer may take, which allows for packets that
// TCP has to send again.
const (
	beat     = 50 * time.Millisecond
	beatTime = 3 * time.Second
)

// Connection is a TCP connection that is kept in use: what is sent to the pod comes back, time and again.
type Connection struct {
	// Reply is what the pod said at first.
	cluster.Reply

	conn   net.Conn
	answer time.Duration // how long one may take
	stop   context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	beats int
	err   error
}

// Connections are several held connections.
type Connections []*Connection

// Hold opens TCP connections from a host to IP:port and keeps them in use until Close, or until ctx ends.
func Hold(ctx context.Context, from *cluster.Host, address string, n int) (Connections, error) {
	return HoldSlowly(ctx, from, address, n, beat, beatTime)
}

// HoldSlowly is Hold with another time between two uses of a connection, and another that an answer may take, for kernels
// on which everything takes long.
func HoldSlowly(ctx context.Context, from *cluster.Host, address string, n int, beat, beatTime time.Duration) (Connections, error) {
	var all Connections
	for range n {
		c, err := hold(ctx, from, address, beat, beatTime)
		if err != nil {
			all.Close()
			return nil, fmt.Errorf("holding a connection to %s: %w", address, err)
		}
		all = append(all, c)
	}
	return all, nil
}

func hold(ctx context.Context, from *cluster.Host, address string, beat, beatTime time.Duration) (*Connection, error) {
	opening, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	conn, err := from.Dial(opening, "tcp", address)
	if err != nil {
		return nil, err
	}
	reply, err := cluster.Greeting(opening, conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	c := &Connection{Reply: reply, conn: conn, answer: beatTime, stop: stop, done: make(chan struct{})}
	go c.run(ctx, beat)
	return c, nil
}

func (c *Connection) run(ctx context.Context, beat time.Duration) {
	defer close(c.done)
	defer func() { _ = c.conn.Close() }()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := c.echo()
		c.mu.Lock()
		if c.err = err; err == nil {
			c.beats++
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// echo sends a line, a new one each time, and reads it back.
func (c *Connection) echo() error {
	sent := fmt.Appendf(nil, "beat %d\n", c.beats) // only run changes beats
	if err := c.conn.SetDeadline(time.Now().Add(c.answer)); err != nil {
		return err
	}
	if _, err := c.conn.Write(sent); err != nil {
		return err
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c.conn, got); err != nil {
		return err
	}
	if !slices.Equal(got, sent) {
		return fmt.Errorf("sent %q, and %q came back", sent, got)
	}
	return nil
}

// Err returns why the connection broke, nil while it is alive.
func (c *Connection) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Beats is how many times something was sent and came back.
func (c *Connection) Beats() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beats
}

// Close closes all connections. Closing does not count as breaking.
func (all Connections) Close() {
	for _, c := range all {
		c.stop()
	}
	for _, c := range all {
		<-c.done
	}
}

// To returns the connections to a pod.
func (all Connections) To(pod string) Connections {
	return slices.DeleteFunc(slices.Clone(all), func(c *Connection) bool { return c.Pod != pod })
}

// Broken returns an error that names every connection that broke, without those to pods that are known to be gone; nil
// when there is none.
func (all Connections) Broken(gone ...string) error {
	var broken []error
	for _, c := range all {
		if err := c.Err(); err != nil && !slices.Contains(gone, c.Pod) {
			broken = append(broken, fmt.Errorf("the connection of %s to pod %s broke after %d beats: %w", c.Client, c.Pod, c.Beats(), err))
		}
	}
	return errors.Join(broken...)
}
