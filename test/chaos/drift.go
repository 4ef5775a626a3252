package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// The jump that packets from outside and from pods take.
const jump = "PREROUTING -m comment --comment 'service proxy: Services' -j SPROXY-SERVICES"

// An agent that has started while the API server is away leaves the rules alone that it finds, damaged or not: what it knows
// may be older than they are. So nothing is damaged meanwhile.
func repairs(w *World) bool { return w.hasAPI() && len(w.cut) == 0 }

func repairsRules(w *World) bool {
	return repairs(w) && w.mode == v1alpha1.ModeIPTables && !w.SwitchesModes
}

func repairsServers(w *World) bool {
	return repairs(w) && w.mode == v1alpha1.ModeIPVS && len(w.services) > 0
}

// reload is what a firewall does that takes a table for its own: everything goes, and who knows of it makes theirs again. It
// takes one table: with both, nobody would use connection tracking any more, the kernel would unhook it, and the packets of
// every translated connection would be those of nobody until it is hooked in again.
func reload(table string) fault {
	return fault{
		name: "table " + table + " is emptied", weight: 1, excused: true,
		possible: repairsRules,
		do: func(ctx context.Context, w *World) (string, error) {
			node := w.anyNode()
			return node, w.shell(ctx, node, "IPT -w -t "+table+" -F; "+plants)
		},
	}
}

// drifts are what others do to the rules of nodes.
func drifts() []fault {
	one := func(name, script string) fault {
		return fault{
			name: name, weight: 1, excused: true,
			possible: repairsRules,
			do: func(ctx context.Context, w *World) (string, error) {
				node := w.anyNode()
				return node, w.shell(ctx, node, script)
			},
		}
	}
	return []fault{
		one("a chain of ours is emptied", "IPT -w -t nat -F SPROXY-SERVICES"),
		one("a rule of ours is deleted", "IPT -w -t nat -D SPROXY-SERVICES 1"),
		one("a jump to our chains is deleted", "IPT -w -t nat -D "+jump),
		one("the rules that let Service traffic pass are emptied", "IPT -w -t filter -F SPROXY-FORWARD"),
		reload("nat"),
		reload("filter"),
		{name: "a virtual server of ours is removed", weight: 2, excused: true,
			possible: repairsServers, do: removeVirtualServer},
		{name: "others add and remove rules of theirs", weight: 3, do: func(ctx context.Context, w *World) (string, error) {
			node := w.anyNode()
			return node, w.shell(ctx, node, "IPT -w -t nat -I OUTPUT -p udp --dport 9 -j RETURN; IPT -w -t nat -D OUTPUT -p udp --dport 9 -j RETURN")
		}},
	}
}

// plants is what others have on every node, as a script that may run again.
const plants = "IPT -w -t nat -N FOREIGN 2>/dev/null || IPT -w -t nat -F FOREIGN; IPT -w -t nat -A FOREIGN -p udp --dport 9 -j RETURN; " +
	"IPT -w -t nat -C OUTPUT -j FOREIGN 2>/dev/null || IPT -w -t nat -A OUTPUT -j FOREIGN; " +
	"IPT -w -t filter -C INPUT -p udp --dport 9 -j DROP 2>/dev/null || IPT -w -t filter -A INPUT -p udp --dport 9 -j DROP"

// planted lists what others have on a node.
const planted = "IPT-save | grep -v SPROXY | grep -e '^-A' -e FOREIGN | cut -d '[' -f 1; " +
	"ipset list FOREIGN | grep -v -e References -e Size; ip route show proto static; ip route show table local proto static"

// shell runs a script on a node, in which IPT is iptables of its backend.
func (w *World) shell(ctx context.Context, node, script string) error {
	_, err := w.output(ctx, node, script)
	return err
}

func (w *World) output(ctx context.Context, node, script string) (string, error) {
	out, err := w.Cluster.Node(node).Run(ctx, "sh", "-ec", strings.ReplaceAll(script, "IPT", "iptables-"+w.Backend(node)))
	if err != nil {
		return "", fmt.Errorf("on node %s: %s: %w", node, script, err)
	}
	return out, nil
}

// plant gives a node rules, a set and routes of others, and remembers them.
func (w *World) plant(ctx context.Context, node string) error {
	err := w.shell(ctx, node, plants+"; ipset create FOREIGN hash:ip; ipset add FOREIGN 192.0.2.1; "+
		"ip route add blackhole 203.0.113.128/25 proto static; ip route add local 172.29.0.0/16 dev lo proto static")
	if err != nil {
		return err
	}
	w.foreign[node], err = w.output(ctx, node, planted)
	return err
}
