package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs/virtualserver"
)

// onVirtualServers runs f with the virtual servers of a node.
func (w *World) onVirtualServers(node string, f func(*virtualserver.Kernel) error) error {
	return w.Cluster.Node(node).Do(func() error {
		kernel, err := virtualserver.Open()
		if err != nil {
			return err
		}
		return errors.Join(f(kernel), kernel.Close())
	})
}

// removeVirtualServer removes a virtual server of a node, with the real ones that it has, and what was sent to them: that of
// a Service to which nothing is held.
func removeVirtualServer(ctx context.Context, w *World) (said string, err error) {
	node := w.anyNode()
	address := w.anyService().clusterIP()
	err = w.onVirtualServers(node, func(kernel *virtualserver.Kernel) error {
		states, err := kernel.List(ctx)
		if err != nil {
			return err
		}
		var removals virtualserver.Batch
		for _, s := range states {
			if s.Addr.IsValid() && s.Addr.String() == address && s.Protocol == forwarding.TCP {
				removals.DeleteServer(s.Key)
			}
		}
		said = fmt.Sprintf("%s: %d at %s", node, len(removals), address)
		var errs []error
		for _, failure := range kernel.Do(ctx, removals) {
			errs = append(errs, failure)
		}
		return errors.Join(errs...)
	})
	return said, err
}

// virtualServersOfNobody expects that no connection is sent on where Services are gone.
func (w *World) virtualServersOfNobody(ctx context.Context, node string) error {
	if !w.SwitchesModes {
		return nil
	}
	return w.onVirtualServers(node, func(kernel *virtualserver.Kernel) error {
		states, err := kernel.List(ctx)
		if err != nil {
			return err
		}
		for _, s := range states {
			for _, r := range s.Real {
				if r.Weight > 0 && (w.mode == v1alpha1.ModeIPTables || w.isGone(s.Key)) {
					return fmt.Errorf("node %s in mode %s still has virtual server %s", node, w.mode, s.Key)
				}
			}
		}
		return nil
	})
}

// isGone says whether a virtual server is that of a Service that there is no more.
func (w *World) isGone(key virtualserver.Key) bool {
	for number := range w.gone {
		if s := (service{number: number}); key.Addr.IsValid() && key.Addr.String() == s.clusterIP() || int32(key.Port) == s.nodePort() {
			return true
		}
	}
	return false
}
