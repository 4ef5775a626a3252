package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/serviceproxy/service-proxy-operator/test/churn"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/relay"
)

// seat is a node on which one contestant is measured, with a client and a server that are pods of it:
//
//	client ── node, with the rules ── server, which has every address of endpointRange
type seat struct {
	*contestant
	world          *world
	services       int
	node           *cluster.Node
	client, server *cluster.Pod
	meter          *meter
	process        *cluster.Process
	kubeconfig     string
	// received is how many bytes came from the API server.
	received atomic.Int64
	closers  []func() error
}

// take prepares a node for a contestant.
func (w *world) take(ctx context.Context, c *contestant, services int) (s *seat, err error) {
	s = &seat{contestant: c, world: w, services: services}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	name := fmt.Sprintf("%s-%d", c.name, services)
	if s.node, err = w.cluster.AddNode(ctx, name); err != nil {
		return s, err
	}
	s.closers = append(s.closers, func() error { return w.cluster.RemoveNode(context.WithoutCancel(ctx), name) })
	pods, err := w.cluster.RunPods(ctx, cluster.PodSpec{Name: "client-" + name, Node: name}, cluster.PodSpec{Name: "server-" + name, Node: name})
	if err != nil {
		return s, err
	}
	s.client, s.server = pods[0], pods[1]
	stop, err := churn.Serve(ctx, s.node, s.server, endpointRange)
	if err != nil {
		return s, err
	}
	s.closers = append(s.closers, stop)
	if s.meter, err = newMeter("bench-" + name); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.meter.close)
	if s.ours {
		// This is how the kubelet tells others which backend the node uses.
		if _, err := s.node.Run(ctx, "iptables-"+c.backend, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"); err != nil {
			return s, err
		}
	}
	return s, s.openAPI(ctx)
}

func (s *seat) close() error {
	if s.process != nil {
		s.process.Kill()
		<-s.process.Done()
	}
	var errs []error
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func (s *seat) lastWords() string {
	if s.process == nil {
		return ""
	}
	return s.process.Tail(30)
}

// openAPI makes a way to the API server on which bytes are counted.
func (s *seat) openAPI(ctx context.Context) error {
	config, err := clientcmd.LoadFromFile(s.world.cluster.NodeKubeconfig())
	if err != nil {
		return fmt.Errorf("reading the kubeconfig of nodes: %w", err)
	}
	listener, err := s.node.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for _, c := range config.Clusters {
		address := strings.TrimPrefix(c.Server, "https://")
		through := relay.Start(listener, func(ctx context.Context) (net.Conn, error) {
			conn, err := s.node.Dial(ctx, "tcp", address)
			return &counted{Conn: conn, received: &s.received}, err
		})
		s.closers = append(s.closers, func() error { through.Close(); return nil })
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("reading the address of the API server: %w", err)
		}
		c.Server, c.TLSServerName = "https://"+through.Address(), host
	}
	s.kubeconfig = filepath.Join(s.world.folder, s.node.Name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, s.kubeconfig); err != nil {
		return fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return nil
}

// counted counts what is read.
type counted struct {
	net.Conn
	received *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

// start starts the process.
func (s *seat) start() error {
	spec := s.contestant.start(s.kubeconfig, s.node.Name)
	spec.Name = "proxy"
	spec.Path, spec.Args = s.meter.command(spec.Path, spec.Args)
	process, err := s.node.Start(spec)
	if err != nil {
		return fmt.Errorf("starting %s: %w", s.name, err)
	}
	s.process = process
	return nil
}

// stop ends the process at once; its rules stay.
func (s *seat) stop() {
	s.process.Kill()
	<-s.process.Done()
	s.process = nil
}

// patience is how long anything may take: kube-proxy needs minutes for many Services.
const patience = 20 * time.Minute

// until calls done until it says so, or the process ends, in the namespace of the client.
func (s *seat) until(ctx context.Context, what string, every time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	return s.client.Do(func() error {
		for {
			if ok, err := done(); ok || err != nil {
				return err
			}
			select {
			case <-ticker.C:
			case <-s.process.Done():
				return fmt.Errorf("the proxy ended before %s", what)
			case <-ctx.Done():
				return fmt.Errorf("waiting until %s: %w", what, context.Cause(ctx))
			}
		}
	})
}

// answers waits until every address is answered.
func (s *seat) answers(ctx context.Context, addrs ...netip.Addr) error {
	return s.until(ctx, "Services answer", 5*time.Millisecond, func() (bool, error) {
		return !slices.ContainsFunc(addrs, func(a netip.Addr) bool {
			_, err := ask(netip.AddrPortFrom(a, churn.Port), 50*time.Millisecond)
			return err != nil
		}), nil
	})
}

// follows waits until a Service is answered by an endpoint.
func (s *seat) follows(ctx context.Context, service, endpoint netip.Addr) error {
	return s.until(ctx, "packets go to a new endpoint", time.Millisecond, func() (bool, error) {
		who, err := ask(netip.AddrPortFrom(service, churn.Port), time.Second)
		return err == nil && who == endpoint, nil
	})
}
