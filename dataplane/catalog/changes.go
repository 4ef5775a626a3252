package catalog

// Changes counts the changes of Services and EndpointSlices that concern this node's rules.
type Changes struct {
	// Services and Slices count those since the start, PendingServices and PendingSlices those that Take has not handed
	// out yet.
	Services, Slices, PendingServices, PendingSlices uint64
}

// Changes returns how many changes there were.
func (c *Catalog) Changes() Changes {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

func (c *Changes) countService() { c.Services++; c.PendingServices++ }

func (c *Changes) countSlice() { c.Slices++; c.PendingSlices++ }

func (c *Changes) taken() { c.PendingServices, c.PendingSlices = 0, 0 }
