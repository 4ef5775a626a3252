package main

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"time"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/install"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// pool is the config of the second part.
//
//go:embed pool.yaml
var pool string

func (d *demo) poolComesUp(ctx context.Context) error {
	if _, err := install.Start(ctx, d.cluster, install.Options{Root: "."}); err != nil {
		return err
	}
	if err := d.setTheScene(ctx); err != nil {
		return err
	}
	out, err := d.cluster.KubectlApply(ctx, pool)
	if err != nil {
		return err
	}
	d.say("$ kubectl apply -f pool.yaml\n" + out)
	return d.expectReady(ctx, v1alpha1.ModeIPTables)
}

// expectReady expects that the pool gets Ready, with every node in a mode.
func (d *demo) expectReady(ctx context.Context, mode v1alpha1.Mode) error {
	start := time.Now()
	err := d.shell(ctx, d.cluster.Kubectl, "wait", "--for=condition=Ready", "--timeout=60s", "spc/default")
	took := time.Since(start)
	var nodes v1alpha1.ServiceProxyNodeList
	if err := d.cluster.Client().List(ctx, &nodes); err != nil {
		return fmt.Errorf("reading what nodes run: %w", err)
	}
	for _, node := range nodes.Items {
		if err == nil && node.Status.Mode != mode {
			err = fmt.Errorf("node %s runs mode %q", node.Name, node.Status.Mode)
		}
	}
	d.expect(err == nil, fmt.Sprintf("both nodes run mode %s, and the pool is Ready", mode), "after %.1f s%s", took.Seconds(), failure(err))
	return nil
}

// leisurely is the pace in user-mode Linux, which has one CPU for everybody. A connection that is refused or broken fails
// at once all the same.
func leisurely() pace {
	return pace{every: 100 * time.Millisecond, beat: 500 * time.Millisecond, patience: 10 * time.Second}
}

func (d *demo) poolSwitches(ctx context.Context) error {
	d.chapter("From iptables to IPVS, while everybody goes on",
		"Five streams of new connections run all the time, and 24 connections are held open and in use. Virtual servers and\n"+
			"routes are written first; then the rules go that led elsewhere.")
	crowd, err := d.gather(ctx, leisurely())
	if err != nil {
		return err
	}
	defer crowd.leave()
	if err := d.switchTo(ctx, v1alpha1.ModeIPVS, crowd); err != nil {
		return err
	}
	d.chapter("And back",
		"24 connections more are held, which IPVS carries. The rules are written first; the virtual servers get weight 0, and\n"+
			"each stays for as long as it has connections.")
	carried, err := d.hold(ctx, leisurely())
	if err != nil {
		return err
	}
	defer carried.Close()
	if err := d.switchTo(ctx, v1alpha1.ModeIPTables, crowd); err != nil {
		return err
	}
	if err := use(ctx, carried); err != nil {
		return err
	}
	d.expectUnbroken("none broke of those that IPVS carries", carried)
	return d.expectDraining(ctx, len(carried))
}

// switchTo takes the pool to another mode, and expects that nobody was disturbed.
func (d *demo) switchTo(ctx context.Context, mode v1alpha1.Mode, crowd *crowd) error {
	before, err := d.holdings(ctx, "before")
	if err != nil {
		return err
	}
	patch := fmt.Sprintf(`{"spec":{"mode":%q}}`, mode)
	if err := d.shell(ctx, d.cluster.Kubectl, "patch", "spc", "default", "--type", "merge", "-p", patch); err != nil {
		return err
	}
	if err := d.expectReady(ctx, mode); err != nil {
		return err
	}
	if err := use(ctx, crowd.held); err != nil {
		return err
	}
	tally := crowd.take()
	d.expect(tally.Failed == 0, "no new connection failed", "%s", tally)
	d.expectUnbroken("no held connection broke", crowd.held)
	after, err := d.holdings(ctx, "after")
	if err != nil {
		return err
	}
	d.table(slices.Concat([][]string{{"node", "", "rules", "virtual servers", "their connections"}}, before, after))
	return d.shell(ctx, d.cluster.Kubectl, "get", "spn", "-o", "wide")
}

// use waits until each connection has been used a few times more, or broke, which it does by itself when nothing comes
// back.
func use(ctx context.Context, held traffic.Connections) error {
	const times = 3
	until := map[*traffic.Connection]int{}
	for _, c := range held {
		until[c] = c.Beats() + times
	}
	for _, c := range held {
		for c.Err() == nil && c.Beats() < until[c] {
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demo) expectUnbroken(what string, held traffic.Connections) {
	least := held[0].Beats()
	for _, c := range held {
		least = min(least, c.Beats())
	}
	err := held.Broken()
	d.expect(err == nil, what, "%d held, each used %d times or more%s", len(held), least, failure(err))
}

// holdings are rows of a table: a node, when, its rules as it reports them, its virtual servers and their connections, those
// included that have just ended, as the kernel lists them.
func (d *demo) holdings(ctx context.Context, when string) ([][]string, error) {
	var rows [][]string
	for _, node := range d.cluster.Nodes() {
		object, err := d.nodeObject(ctx, node.Name)
		if err != nil {
			return nil, err
		}
		rules := "?"
		if sync := object.Status.Sync; sync != nil && sync.Rules != nil {
			rules = strconv.Itoa(int(*sync.Rules))
		}
		servers, connections, err := virtualServers(ctx, node)
		if err != nil {
			return nil, err
		}
		rows = append(rows, []string{node.Name, when, rules, strconv.Itoa(servers), strconv.Itoa(connections)})
	}
	return rows, nil
}

func (d *demo) nodeObject(ctx context.Context, name string) (*v1alpha1.ServiceProxyNode, error) {
	var object v1alpha1.ServiceProxyNode
	if err := d.cluster.Client().Get(ctx, client.ObjectKey{Name: name}, &object); err != nil {
		return nil, fmt.Errorf("reading what node %s runs: %w", name, err)
	}
	return &object, nil
}

// virtualServers counts those of a node, and their connections, as its kernel lists them.
func virtualServers(ctx context.Context, node *cluster.Node) (servers, connections int, err error) {
	err = node.Do(func() error {
		kernel, err := virtualserver.Open()
		if err != nil {
			return err
		}
		defer func() { _ = kernel.Close() }()
		states, err := kernel.List(ctx)
		for _, server := range states {
			servers++
			for _, backend := range server.Real {
				connections += int(backend.Active + backend.Inactive)
			}
		}
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("node %s: %w", node.Name, err)
	}
	return servers, connections, nil
}

// expectDraining expects that node a says how many connections are left in the mode that it has left.
func (d *demo) expectDraining(ctx context.Context, atLeast int) error {
	err := d.shell(ctx, d.cluster.Kubectl, "wait", "--for=condition=Draining", "--timeout=30s", "spn/a")
	if err != nil {
		d.expect(false, "node a says that it drains", "%v", err)
		return nil
	}
	object, err := d.nodeObject(ctx, "a")
	if err != nil {
		return err
	}
	left := ptr.Deref(object.Status.Draining, 0)
	d.expect(int(left) >= atLeast, "node a tells how many are left in IPVS", "status.draining is %d: those held, and others that "+
		"ended less than two minutes ago", left)
	return nil
}
