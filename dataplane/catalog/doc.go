// Package catalog keeps what the data plane needs of the Kubernetes API, and says what changed.
//
// Reflectors feed it Services, EndpointSlices, ServiceCIDRs and the node's own Node. Each object is turned into the
// compact values of package forwarding as it is decoded and then forgotten: no API object is ever kept. What changed
// since the last look is remembered per Service, so that the reader's work grows with the changes and not with the
// cluster.
package catalog
