// Package render says what the kernel of a node is to hold, worked out from objects alone: by the code that agents run, for a
// kernel that offers everything.
package render

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/settings"
	"github.com/serviceproxy/service-proxy-operator/dataplane/xtables"
)

// Rendering is what the kernel of a node is to hold.
type Rendering struct {
	Node string        `json:"node"`
	Mode v1alpha1.Mode `json:"mode"`
	// LeftOut names what of the objects is not programmed, and why, in order.
	LeftOut []string `json:"leftOut,omitempty"`
	// Scripts make the kernel hold it, one after the other.
	Scripts []xtables.Script `json:"scripts"`
}

// Rules renders what the node among objects holds with some settings. The error names the setting that the node cannot carry
// out. Mode IPVS depends on which addresses the node has: they are taken to be those in its status.
func Rules(s *v1alpha1.ProxySettings, objects *catalog.Objects) (*Rendering, error) {
	batch := catalog.Read(objects)
	plan, err := settings.Resolve(s, &batch.World, machine(&objects.Node))
	if err != nil {
		return nil, fmt.Errorf("working out the settings of node %s: %w", objects.Node.Name, err)
	}
	r := &Rendering{Node: objects.Node.Name, Mode: plan.Mode}
	for _, p := range batch.Problems {
		r.leaveOut(p)
	}
	for i := range objects.Services {
		if svc := &objects.Services[i]; svc.Spec.ClusterIP == "" && svc.Spec.Type != corev1.ServiceTypeExternalName {
			name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
			r.leaveOut(catalog.ServiceProblem(name, "spec.clusterIP", "there is none; an API server would have given it one"))
		}
	}
	table := r.compute(batch.Entries, &plan.Node)
	var ports []*forwarding.ServicePort
	for p := range table.All {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b *forwarding.ServicePort) int {
		return strings.Compare(fmt.Sprint(a.ID, a.ID.Protocol), fmt.Sprint(b.ID, b.ID.Protocol))
	})
	if plan.Mode == v1alpha1.ModeIPVS {
		var left []ipvs.Problem
		r.Scripts, left = ipvs.Scripts(plan.IPVS, addresses(&objects.Node), ports, healthPorts(batch.Entries))
		for _, p := range left {
			r.leaveOut(catalog.ServiceProblem(p.Port.Service, "spec", p.Message))
		}
	} else {
		r.Scripts = iptables.Scripts(plan.IPTables, ports, healthPorts(batch.Entries))
	}
	r.Scripts = append(r.Scripts, parameters(plan.Kernel))
	slices.Sort(r.LeftOut)
	return r, nil
}

// machine is what a Node says of its machine.
func machine(node *corev1.Node) settings.Machine {
	return settings.Machine{Cores: int(node.Status.Capacity.Cpu().Value()), Release: node.Status.NodeInfo.KernelVersion}
}

// parameters are the parameters of the kernel. Of those that are a lower bound, it may have more.
func parameters(writes []conntrack.Write) xtables.Script {
	script := xtables.Script{Program: "sysctl --load=-"}
	for _, w := range writes {
		if path, is := strings.CutPrefix(w.Path, "proc/sys/"); is {
			script.Lines = append(script.Lines, fmt.Sprintf("%s = %d", strings.ReplaceAll(path, "/", "."), w.Value))
		}
	}
	return script
}

// compute makes the forwarding table of all Services.
func (r *Rendering) compute(entries []catalog.Entry, node *forwarding.Node) *forwarding.Table {
	table := forwarding.NewTable()
	slices.SortFunc(entries, func(a, b catalog.Entry) int {
		return forwarding.Before(a.Created(), a.Name, b.Created(), b.Name)
	})
	for _, e := range entries {
		if e.Service == nil {
			continue
		}
		ports, bad := forwarding.Compute(e.Service, e.Slices, node)
		for _, p := range bad {
			r.leaveOut(catalog.ServiceProblem(e.Name, p.Field, p.Message))
		}
		table.Update(e.Name, e.Created(), ports)
	}
	for _, d := range table.Disputes() {
		for _, loser := range d.Waiting {
			message := fmt.Sprintf("%s is held by %s and also claimed by %s", d.Key, d.Holder, loser)
			r.leaveOut(catalog.ServiceProblem(loser.Service, "spec", message))
		}
	}
	return table
}

func (r *Rendering) leaveOut(p catalog.Problem) { r.LeftOut = append(r.LeftOut, p.String()) }

// healthPorts are the node ports at which load balancers ask for local endpoints.
func healthPorts(entries []catalog.Entry) []uint16 {
	var ports []uint16
	for _, e := range entries {
		if e.Service != nil && !e.Service.Foreign && e.Service.HealthCheckNodePort != 0 {
			ports = append(ports, e.Service.HealthCheckNodePort)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// addresses are all that a Node says it has.
func addresses(node *corev1.Node) []netip.Addr {
	var all []netip.Addr
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return all
}

// WriteTo writes the rendering as text: what is left out as comments, and then the scripts, each under the program that reads
// it.
func (r *Rendering) WriteTo(w io.Writer) (written int64, err error) {
	line := func(format string, args ...any) {
		if err == nil {
			var n int
			n, err = fmt.Fprintf(w, format+"\n", args...)
			written += int64(n)
		}
	}
	line("# node %s in mode %s", r.Node, r.Mode)
	for _, left := range r.LeftOut {
		line("# left out: %s", left)
	}
	for _, s := range r.Scripts {
		line("\n# %s", s.Program)
		for _, text := range s.Lines {
			line("%s", text)
		}
	}
	return written, err
}
