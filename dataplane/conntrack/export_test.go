package conntrack

// WithoutFilters makes a Cleaner go about as on a kernel that cannot filter dumps.
func (c *Cleaner) WithoutFilters() { c.unfiltered = true }
