package main

import (
	"context"
	"time"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// crowd is everybody who talks to web and shop while something happens to them.
type crowd struct {
	streams []*traffic.Stream
	held    traffic.Connections
}

// pace is how busy a crowd is: how often a stream opens a connection and a held one is used, and how long an answer to
// either may take.
type pace struct{ every, beat, patience time.Duration }

// swift is the pace on the kernel of this machine. An answer may take less than the second after which TCP sends a lost
// SYN again (RFC 6298): one lost packet is a failure.
func swift() pace {
	return pace{every: 5 * time.Millisecond, beat: 50 * time.Millisecond, patience: 900 * time.Millisecond}
}

// gather starts five streams of new connections from a pod, a node and outside, and holds 24 connections open.
func (d *demo) gather(ctx context.Context, p pace) (*crowd, error) {
	client, outside := d.pods["client"].Host, d.cluster.Outside()
	a, b := d.cluster.Node("a"), d.cluster.Node("b")
	crowd := &crowd{}
	for _, v := range []visit{
		{from: client, address: d.web.IPv4},
		{from: client, address: d.web.IPv6},
		{from: b.Host, address: d.web.IPv4},
		{from: outside, address: at(a.IPv4)},
		{from: outside, address: at(b.IPv6)},
	} {
		crowd.streams = append(crowd.streams, traffic.OpenPatiently(ctx, v.from, "tcp", v.address, p.every, p.patience))
	}
	var err error
	if crowd.held, err = d.hold(ctx, p); err != nil {
		crowd.leave()
		return nil, err
	}
	return crowd, nil
}

// hold opens 24 connections and keeps them in use, half of them from a pod, half from outside.
func (d *demo) hold(ctx context.Context, p pace) (traffic.Connections, error) {
	var all traffic.Connections
	for _, v := range []visit{
		{from: d.pods["client"].Host, address: d.web.IPv4},
		{from: d.cluster.Outside(), address: at(d.cluster.Node("a").IPv4)},
	} {
		held, err := traffic.HoldSlowly(ctx, v.from, v.address, 12, p.beat, p.patience)
		if err != nil {
			all.Close()
			return nil, err
		}
		all = append(all, held...)
	}
	return all, nil
}

// take returns what became of all new connections since the last take.
func (c *crowd) take() traffic.Tally {
	var tallies []traffic.Tally
	for _, s := range c.streams {
		tallies = append(tallies, s.Take())
	}
	return traffic.Sum(tallies...)
}

func (c *crowd) leave() {
	for _, s := range c.streams {
		s.Stop()
	}
	c.held.Close()
}

func (d *demo) podLeaves(ctx context.Context) error {
	d.chapter("A pod leaves, while everybody goes on",
		"Five streams of new connections run all the time, and 24 connections are held open. kubectl delete asks web-4 to\n"+
			"end: it goes on serving for its grace period, here one second, and nobody new is to be sent to it.")
	crowd, err := d.gather(ctx, swift())
	if err != nil {
		return err
	}
	defer crowd.leave()
	pod := d.pods["web-4"]
	asked := time.Now()
	if err := d.shell(ctx, d.cluster.Kubectl, "delete", "pod", pod.Name, "--wait=false"); err != nil {
		return err
	}
	deleted := time.Now()
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if err := pod.Delete(ctx); err != nil { // as a kubelet does at the end of the grace period
		return err
	}
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	tally := crowd.take()
	last := tally.LastByPod[pod.Name]
	d.expect(tally.Failed == 0, "no new connection failed", "%s", tally)
	d.expect(last.Before(deleted.Add(500*time.Millisecond)), "nobody new was sent to web-4 once nodes had followed",
		"the last one %.0f ms after kubectl was called, which took %.0f ms", ms(last.Sub(asked)), ms(deleted.Sub(asked)))
	d.expectHeld(crowd.held, pod)
	return nil
}

func (d *demo) podCrashes(ctx context.Context) error {
	d.chapter("A pod crashes",
		"web-3 goes without a word. Who is sent to it before the nodes have followed is lost, with any proxy; nobody after\n"+
			"that, and no connection to the pods that live on. (Lost connections are then deleted from conntrack on the nodes:\n"+
			"a new one with the source port of a lost one would follow it for up to two minutes.)")
	crowd, err := d.gather(ctx, swift())
	if err != nil {
		return err
	}
	defer crowd.leave()
	pod := d.pods["web-3"]
	crashed := time.Now()
	if err := pod.Delete(ctx); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if err := traffic.Forget(ctx, d.cluster, pod); err != nil {
		return err
	}
	settling := crowd.take()
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	settled := crowd.take()
	lost := 0.0
	if settling.Failed > 0 {
		lost = ms(settling.LastFailure.Sub(crashed))
	}
	d.expect(lost < 500, "nodes followed at once", "%d of %d failed, the last one %.0f ms after the crash",
		settling.Failed, settling.Opened+settling.Failed, lost)
	d.expect(settled.Failed == 0, "no new connection failed after that", "%s", settled)
	d.expectHeld(crowd.held, pod)
	return nil
}

// expectHeld expects that of the held connections only those to a pod that is gone have ended.
func (d *demo) expectHeld(held traffic.Connections, gone *cluster.Pod) {
	err := held.Broken(gone.Name)
	toIt := len(held.To(gone.Name))
	d.expect(err == nil, "no held connection to a living pod broke", "%d held, %d of them to %s%s",
		len(held), toIt, gone.Name, failure(err))
}

func ms(t time.Duration) float64 { return float64(t.Microseconds()) / 1000 }

// pause lets the story go on for a while.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
