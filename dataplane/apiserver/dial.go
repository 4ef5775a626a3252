package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// headStart is how long an address is tried alone before the next one is tried beside it. Within a data centre a
// machine that is there has long answered by then.
const headStart = 300 * time.Millisecond

// dial connects to the API server that answers first. Other addresses, those of HTTP proxies, it leaves as they are.
func (s *Servers) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address != s.configured {
		return s.dialer.DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &race{servers: s, addresses: s.Known(), began: s.now()}
	r.ends = make(chan attempt, len(r.addresses))
	conn, err := r.run(ctx, network)
	// Whoever connects too late is not needed any more.
	go func(left int) {
		for range left {
			if late := <-r.ends; late.err == nil {
				_ = late.conn.Conn.Close() // it was never used
			}
		}
	}(r.started - r.ended)
	if err != nil {
		return nil, fmt.Errorf("connecting to any API server: %w", err)
	}
	return conn, nil
}

// race is attempts to connect to several addresses.
type race struct {
	servers        *Servers
	addresses      []string
	began          uint64 // the last event before
	started, ended int
	ends           chan attempt
}

// attempt is how the attempt to connect to one address ended.
type attempt struct {
	number int
	conn   *conn
	err    error
}

// run starts the attempts, and returns the first connection, or the errors of all.
func (r *race) run(ctx context.Context, network string) (*conn, error) {
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	r.start(ctx, network)
	failures := make([]error, len(r.addresses))
	for r.ended < len(r.addresses) {
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), errors.Join(failures...))
		case <-timer.C:
			r.start(ctx, network)
			timer.Reset(headStart)
		case end := <-r.ends:
			r.ended++
			if end.err == nil {
				r.blame(failures[:end.number])
				return end.conn, nil
			}
			failures[end.number] = end.err
			r.servers.noteFailure(r.addresses[end.number], r.began)
			r.start(ctx, network)
			timer.Reset(headStart)
		}
	}
	return nil, errors.Join(failures...)
}

// start starts the next attempt if there is one left.
func (r *race) start(ctx context.Context, network string) {
	if r.started == len(r.addresses) {
		return
	}
	number := r.started
	r.started++
	go func() {
		c, err := r.servers.dialer.DialContext(ctx, network, r.addresses[number])
		r.ends <- attempt{number: number, conn: &conn{
			Conn: c, servers: r.servers, address: r.addresses[number], began: r.began,
		}, err: err}
	}()
}

// blame notes the addresses that have not connected in spite of their head start.
func (r *race) blame(failures []error) {
	for number, err := range failures {
		if err == nil {
			r.servers.noteFailure(r.addresses[number], r.began)
		}
	}
}

// conn is a connection to an API server. One that is closed before anything was answered, because of its certificate or
// because nothing came, counts as a failure of its address. One that was never used, because another one to the same
// address came first, does not.
type conn struct {
	net.Conn
	servers *Servers
	address string
	began   uint64
	settled atomic.Bool
}

// Close closes the connection.
func (c *conn) Close() error {
	if c.settled.CompareAndSwap(false, true) {
		c.servers.noteFailure(c.address, c.began)
	}
	return c.Conn.Close()
}

func (c *conn) answered() {
	c.settled.Store(true)
	c.servers.noteAnswer(c.address)
}

// observe returns a transport that tells the connections of another which of them got an answer. A connection says too
// little itself: it cannot tell a handshake that fails from one that does not.
func (s *Servers) observe(inner http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		var used atomic.Pointer[conn]
		trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			raw := info.Conn
			if secured, ok := raw.(*tls.Conn); ok {
				raw = secured.NetConn()
			}
			if c, ok := raw.(*conn); ok {
				used.Store(c)
			}
		}}
		response, err := inner.RoundTrip(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
		if c := used.Load(); err == nil && c != nil {
			c.answered()
		}
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }
