package agent

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/catalog"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/health"
)

// healthChecks keeps the health check node ports of Services open and their answers right.
type healthChecks struct {
	server *health.NodePorts
	open   map[types.NamespacedName]uint16
	// addresses is where the ports were opened last, and again says that some could not be.
	addresses []netip.Prefix
	again     bool
}

func newHealthChecks(healthy func() bool) *healthChecks {
	return &healthChecks{server: health.NewNodePorts(healthy), open: map[types.NamespacedName]uint16{}}
}

// follow takes over changed Services, and returns which ports cannot be opened.
func (h *healthChecks) follow(ctx context.Context, entries []catalog.Entry, addresses []netip.Prefix) []catalog.Problem {
	moved := h.again || !slices.Equal(h.addresses, addresses)
	for _, e := range entries {
		check := health.Check{Service: e.Name}
		if e.Service != nil && !e.Service.Foreign {
			check.Port = e.Service.HealthCheckNodePort
			check.LocalReady = forwarding.LocalReady(e.Slices)
		}
		known := h.open[e.Name]
		if check.Port == 0 && known == 0 {
			continue
		}
		h.server.Set(check)
		if check.Port == known {
			continue
		}
		moved = true
		if check.Port == 0 {
			delete(h.open, e.Name)
		} else {
			h.open[e.Name] = check.Port
		}
	}
	if !moved {
		return nil
	}
	h.addresses = addresses
	failures := h.server.Sync(ctx, addresses)
	h.again = len(failures) > 0
	var problems []catalog.Problem
	for _, f := range failures {
		if !f.Repeated {
			problems = append(problems, catalog.ServiceProblem(f.Service, "spec.healthCheckNodePort", f.Err.Error()))
		}
	}
	return problems
}

// ports are the ports that are to be open.
func (h *healthChecks) ports() []uint16 {
	return slices.Compact(slices.Sorted(maps.Values(h.open)))
}

func (h *healthChecks) close() { h.server.Close() }
