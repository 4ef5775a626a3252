package catalog

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Objects are what a catalog is made of, as an API server has them.
type Objects struct {
	Node         corev1.Node
	Services     []corev1.Service
	Slices       []discoveryv1.EndpointSlice
	ServiceCIDRs []networkingv1.ServiceCIDR
}

// Read is what the node among objects would Take first if an API server had them.
func Read(objects *Objects) Batch {
	c := New(objects.Node.Name, func() time.Time { return time.Time{} })
	c.mu.Lock()
	for i := range objects.Services {
		c.setServiceLocked(decodeService(&objects.Services[i]))
	}
	for i := range objects.Slices {
		c.setSliceLocked(decodeSlice(&objects.Slices[i], c.nodeName))
	}
	for i := range objects.ServiceCIDRs {
		c.setServiceCIDRsLocked(decodeServiceCIDR(&objects.ServiceCIDRs[i]))
	}
	c.setNodeLocked(decodeNode(&objects.Node))
	for _, kind := range []string{kindServices, kindSlices, kindServiceCIDRs, kindNodes} {
		c.synced[kind] = true
	}
	c.mu.Unlock()
	batch, _ := c.Take() // everything is listed
	return batch
}
